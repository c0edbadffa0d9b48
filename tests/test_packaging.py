"""The configurations travel in the wheel and are found wherever it runs."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TRAVELS = {
    "sciml": "sciml",
    "problems": "problems",
    "solvers": "solvers",
    "configs": "sciml/configs",
    "data": "sciml/data",
}
PROBE = """
import json, sys
import problems, solvers, sciml
from sciml.configuration.choices import CONFIGS, presets
from sciml.configuration.compose import compose
from sciml.configuration.words import read_words
config, _ = compose(read_words(["problem=heat_fast", "solver=trivial", "trainer=ddp"]))
files = [module.__file__ for module in (sciml, problems, solvers)]
print(json.dumps([*files, str(CONFIGS), config.problem, config.trainer["devices"]]))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a wheel is made of."""
    source = tmp_path_factory.mktemp("source")
    for folder in TRAVELS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    return source


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built and unpacked, as pip installs a wheel of pure Python."""
    target = tmp_path_factory.mktemp("installed")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(target),
    ]
    subprocess.run([*build, str(source)], check=True, capture_output=True)
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def _probe(folder: Path, home: Path | None) -> list:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if home:
        environment["PYTHONPATH"] = str(home)
    # -P leaves the current folder out of the path, as an installed command does.
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROBE],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_editable_install_finds_the_configurations(tmp_path: Path):
    *files, configs, problem, devices = _probe(tmp_path, None)
    assert [Path(f).parent.parent for f in files] == [ROOT] * 3
    assert Path(configs) == ROOT / "configs"
    assert (problem, devices) == ({"name": "heat", "diffusivity": 1.0}, 2)


@pytest.mark.parametrize("where", ["root", "elsewhere"])
def test_a_wheel_finds_its_own_configurations(installed: Path, tmp_path: Path, where: str):
    *files, configs, problem, devices = _probe(ROOT if where == "root" else tmp_path, installed)
    assert [Path(f).parent.parent for f in files] == [installed] * 3
    assert Path(configs) == installed / "sciml" / "configs"
    assert (problem, devices) == ({"name": "heat", "diffusivity": 1.0}, 2)


def test_a_wheel_run_by_python_in_the_root_answers(installed: Path):
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "sciml", "list", "problems"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert ["heat_fast", "variant", "of", "heat"] in map(str.split, done.stdout.splitlines())


def test_every_file_of_the_checkout_is_in_the_wheel(source: Path, installed: Path):
    for folder, target in TRAVELS.items():
        files = {p.relative_to(source / folder) for p in (source / folder).rglob("*") if p.is_file()}
        assert files
        assert {p for p in files if not (installed / target / p).is_file()} == set()
