"""Run folders: what they hold, that they are read back, and that hostile ones do no harm."""

import errno
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

import sciml
from problems.pde.heat import Heat
from sciml.configuration.compose import Config, Made, compose, config_hash, read_config
from sciml.configuration.words import Request, read_words
from sciml.errors import SolveError, UserError
from sciml.files import write_text
from sciml.progress import Progress
from sciml.runs.execution import execute
from sciml.runs.folder import load, new_folder
from sciml.runs.solution_file import read_state, write_solution
from sciml.solution import Solution
from solvers.pde.spectral import Spectral

WORDS = ("problem=heat", "solver=spectral", "solver.tolerance=1e-4", "problem.diffusivity=0.2", "seed=3")


def composed(*words: str) -> tuple[Config, Made]:
    request = read_words(words)
    assert isinstance(request, Request)
    return compose(request)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config, made = composed(*WORDS)
    folder = new_folder(config, ("heat", "spectral"), tmp_path_factory.mktemp("runs"))
    execute(config, made, folder, Progress())
    return folder


def test_a_run_folder_holds_everything(folder: Path):
    names = {p.name for p in folder.iterdir()}
    assert {"config.yaml", "provenance.json", "metrics.json", "solution.h5", "log.txt", "figures"} <= names
    assert not [n for n in names if n.startswith(".")]
    assert list((folder / "figures").glob("*.png"))
    metrics = json.loads((folder / "metrics.json").read_text())
    keys = ("status", "problem", "solver", "kind", "seed", "primary")
    assert [metrics[k] for k in keys] == ["ok", "heat", "spectral", "classical", 3, "relative_l2"]
    assert metrics["errors"]["relative_l2"] < 1e-4
    assert metrics["seconds"].keys() == {"setup", "train", "evaluate", "whole"}
    assert all(value >= 0 for value in metrics["seconds"].values())
    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["versions"]["torch"]
    assert provenance["cpu_seconds"] > 0
    assert (provenance["seed"], provenance["precision"], provenance["resumed"]) == (3, "64", False)


def test_a_run_is_read_back_without_solving(folder: Path, monkeypatch: pytest.MonkeyPatch):
    fresh = sciml.solve(Heat(diffusivity=0.2), Spectral(tolerance=1e-4), seed=3)
    monkeypatch.delattr(Spectral, "solve")
    run = sciml.load(folder)
    points = np.random.default_rng(0).random((50, 2))
    assert np.array_equal(run.solution(points), fresh(points))
    assert run.problem.settings == {"diffusivity": 0.2}
    assert run.solver.settings["tolerance"] == 1e-4
    assert run.metrics["config_hash"] == run.config.hash == folder.name.rpartition("-")[2]
    assert run._repr_html_().count("<tr>") > 8
    assert "<img" in run._repr_html_()


def test_xarray_opens_a_solution_with_names(folder: Path):
    with xarray.open_dataset(folder / "solution.h5", engine="h5netcdf") as data:
        assert data["u"].dims == ("x", "t")
        assert data["u"].attrs["long_name"] == "u"
        error = np.abs(data["u"] - data["u_reference"]).max()
        assert error < 1e-4
        assert json.loads(data.attrs["config"])["problem"] == {"name": "heat", "diffusivity": 0.2}
        assert data.attrs["Conventions"].startswith("CF-")


def test_the_hash_tells_configurations_apart_and_not_folders():
    def hashed(*words: str) -> str:
        return composed(*WORDS[:2], *words)[0].hash

    base = hashed()
    assert hashed("run.dir=elsewhere", "compare=false") == base
    assert hashed("problem.diffusivity=0.1", "seed=0", "trainer=auto") == base
    others = {
        hashed("seed=1"),
        hashed("problem.diffusivity=0.3"),
        hashed("trainer=cpu"),
        hashed("solver.tolerance=1e-3"),
    }
    assert len(others | {base}) == 5
    assert config_hash({"a": 1, "b": 2}) == config_hash({"b": 2, "a": 1})


def test_a_solver_that_breaks_down_leaves_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config, made = composed(*WORDS)

    def diverge(*_: object) -> None:
        raise SolveError("Newton diverged")

    monkeypatch.setattr(Spectral, "solve", diverge)
    with pytest.raises(SolveError):
        execute(config, made, tmp_path / "run", Progress())
    metrics = load(tmp_path / "run").metrics
    assert (metrics["status"], metrics["stop_reason"], metrics["errors"]) == ("failed", "Newton diverged", {})
    assert "Newton diverged" in (tmp_path / "run" / "log.txt").read_text()
    with pytest.raises(UserError, match="unfinished or failed"):
        _ = load(tmp_path / "run").solution


def test_an_error_that_is_not_a_number_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config, made = composed(*WORDS)
    monkeypatch.setattr(Heat, "score", lambda *_: {"relative_l2": float("nan")})
    with pytest.raises(SolveError, match="not a finite number"):
        execute(config, made, tmp_path / "run", Progress())
    assert load(tmp_path / "run").metrics["status"] == "failed"


def test_what_cannot_be_had_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config, made = composed(*WORDS)

    def refuse(*_: object) -> None:
        raise UserError("no GPU")

    monkeypatch.setattr(Spectral, "solve", refuse)
    with pytest.raises(UserError):
        execute(config, made, tmp_path / "run", Progress())
    assert not (tmp_path / "run").exists()


def test_a_problem_that_cannot_be_prepared_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config, made = composed(*WORDS)

    def break_down(*_: object) -> None:
        raise SolveError("no reference")

    monkeypatch.setattr(Heat, "prepare", break_down)
    with pytest.raises(SolveError):
        execute(config, made, tmp_path / "run", Progress())
    metrics = load(tmp_path / "run").metrics
    assert (metrics["status"], metrics["stop_reason"]) == ("failed", "no reference")


def test_a_table_that_refuses_keeps_the_trained_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    words = ("solver=pinn", "solver.width=8", "solver.points=64", "trainer.max_steps=3", "trainer.accelerator=cpu")
    config, made = composed("problem=heat", *words)
    table = Heat.table

    def refuse(*_: object) -> None:
        raise UserError("no such point")

    monkeypatch.setattr(Heat, "table", refuse)
    folder = tmp_path / "run"
    with pytest.raises(UserError, match="no such point"):
        execute(config, made, folder, Progress())
    metrics = load(folder).metrics
    assert (metrics["status"], metrics["stop_reason"]) == ("failed", "no such point")
    monkeypatch.setattr(Heat, "table", table)
    execute(config, made, folder, Progress(), resume=True)
    metrics = load(folder).metrics
    assert (metrics["status"], metrics["notes"]["steps"]) == ("ok", 3)
    assert json.loads((folder / "provenance.json").read_text())["resumed"] is True


def test_a_solution_file_tells_the_device_that_was_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config, made = composed(*WORDS, "trainer.precision=32")
    solve = Spectral.solve

    def solve_elsewhere(*arguments) -> Solution:
        solution = solve(*arguments)
        return replace(solution, notes={**solution.notes, "device": "some GPU"})

    monkeypatch.setattr(Spectral, "solve", solve_elsewhere)
    execute(config, made, tmp_path / "run", Progress())
    with h5py.File(tmp_path / "run" / "solution.h5") as file:
        written = json.loads(str(file.attrs["provenance"]))
    kept = json.loads((tmp_path / "run" / "provenance.json").read_text())
    for provenance in (written, kept):
        # trainer.precision concerns networks alone.
        assert (provenance["device"], provenance["precision"]) == ("some GPU", "64")


def test_a_file_is_as_readable_as_the_umask_lets_it_be(tmp_path: Path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "a")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_flushed_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flush, flushed = os.fsync, []

    def refuse_folders(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        flushed.append(folder)
        if folder:
            raise OSError(errno.EINVAL, "cannot flush")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_text(tmp_path / "a.txt", "a")
    assert flushed == [False, True]
    assert (tmp_path / "a.txt").read_text() == "a"


def test_a_folder_that_holds_something_is_refused(folder: Path):
    config, made = composed(*WORDS)
    before = (folder / "metrics.json").read_bytes()
    with pytest.raises(UserError, match="is not empty"):
        execute(config, made, folder, Progress())
    assert (folder / "metrics.json").read_bytes() == before


CONFIG = "problem: {name: heat}\nsolver: {name: spectral}\ntrainer: {}\nseed: 0\n"
BOMB = "a: &a [1,1]\n" + "".join(f"{chr(98 + k)}: &{chr(98 + k)} [*{chr(97 + k)},*{chr(97 + k)}]\n" for k in range(20))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("", "not a mapping"),
        ("[1, 2]", "not a mapping"),
        ("a: [", "not YAML"),
        ("seed: 0", "expected the keys"),
        (BOMB, "aliases"),
        (CONFIG + "_target_: os.system", "names no code"),
        (CONFIG.replace("seed: 0", "seed: ${oc.env:HOME}"), "refers to nothing"),
        (CONFIG.replace("heat", "1"), "names no problem"),
        (CONFIG.replace("seed: 0", "seed: -1"), "seed should be"),
        (CONFIG.replace("seed: 0", "seed: !!python/object/apply:os.system [ls]"), "not YAML"),
        (CONFIG.replace("heat", "/tmp/evil.py:Evil"), "to run that code"),
        (CONFIG, "unfinished"),
    ],
)
def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path, config: str, message: str):
    with pytest.raises(UserError, match="not a run folder"):
        load(tmp_path)
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(UserError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("metrics", ["", "{", "[]", '{"status": "ok"}', "[" * 100_000])
def test_damaged_metrics_are_one_line(tmp_path: Path, metrics: str):
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "metrics.json").write_text(metrics)
    with pytest.raises(UserError, match=r"metrics\.json"):
        load(tmp_path)


def test_a_solution_of_another_solver_is_one_line(folder: Path, tmp_path: Path):
    for name in ("metrics.json", "solution.h5"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "config.yaml").write_text(CONFIG)
    with h5py.File(tmp_path / "solution.h5", "r+") as file:
        del file["state"]
        file.create_group("state")
    with pytest.raises(UserError, match="does not fit spectral"):
        _ = load(tmp_path).solution


def _external(group: h5py.Group, secret: Path) -> None:
    group.create_dataset("x", (4,), "u1", external=[(str(secret), 0, 4)])


def _virtual(group: h5py.Group, secret: Path) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource(str(secret), "x", (4,))
    group.create_virtual_dataset("x", layout)


def _soft(group: h5py.Group, secret: Path) -> None:
    group["x"] = h5py.SoftLink("/state/x")


def _elsewhere(group: h5py.Group, secret: Path) -> None:
    group["x"] = h5py.ExternalLink(str(secret), "/x")


def _oversized(group: h5py.Group, secret: Path) -> None:
    group.create_dataset("x", (10**12,), "f8", chunks=(1000,))


def _text(group: h5py.Group, secret: Path) -> None:
    group.create_dataset("x", data="text")


def _filtered(group: h5py.Group, secret: Path) -> None:
    group.create_dataset("x", data=np.zeros(100), chunks=(10,), compression="lzf")


def _nested(group: h5py.Group, secret: Path) -> None:
    group.create_group("x")


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (_external, "another file"),
        (_virtual, "another file"),
        (_soft, "link"),
        (_elsewhere, "link"),
        (_oversized, "claims"),
        (_text, "not a numeric array"),
        (_filtered, "filter"),
        (_nested, "not a numeric array"),
    ],
)
def test_a_hostile_solution_file_is_refused(tmp_path: Path, attack, message: str):
    secret = tmp_path / "secret"
    secret.write_bytes(b"1234")
    path = tmp_path / "solution.h5"
    with h5py.File(path, "w") as file:
        attack(file.create_group("state"), secret)
    with pytest.raises(UserError, match=message):
        read_state(path)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_a_file_that_is_not_hdf5_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "solution.h5"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a readable solution file"):
        read_state(path)


def test_the_state_is_kept_to_the_bit(tmp_path: Path):
    rng = np.random.default_rng(0)
    state = {
        "layers.0.weight": rng.standard_normal((3, 4)).astype(np.float32),
        "count": np.array(7),
        "mask": rng.random(5) > 0.5,
    }
    problem = Heat()
    solution = Solution(problem, lambda points: np.zeros((len(points), 1)), state)
    write_solution(tmp_path / "s.h5", problem.table(solution), state, {"title": "test"})
    read = read_state(tmp_path / "s.h5")
    assert read.keys() == state.keys()
    assert all(read[k].dtype == state[k].dtype and np.array_equal(read[k], state[k]) for k in state)


def test_a_config_survives_its_file(folder: Path):
    assert read_config(folder / "config.yaml") == composed(*WORDS)[0]


def test_what_a_notebook_shows_is_escaped():
    solution = Solution(Heat(), lambda points: points, notes={"<script>": "<script>alert(1)</script>"})
    assert "<script>" not in solution._repr_html_()
    assert "Heat(diffusivity=0.1)" in solution._repr_html_()
