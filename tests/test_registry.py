"""Names become classes, and what is listed without importing is what importing finds."""

import subprocess
import sys
from pathlib import Path

import pytest

from sciml.configuration.choices import CONFIGS, baselines, default_solver, read_yaml
from sciml.configuration.compose import compose
from sciml.configuration.words import Request, read_words
from sciml.errors import UserError
from sciml.parameters import schema
from sciml.registry import entries, find, fitting, misfits, offers
from sciml.solver import Solver, misfit
from sciml.source import classes

ROOT = Path(__file__).parent.parent
GROUPS = ("problem", "solver")
NAMED = [(group, name) for group in GROUPS for name in entries(group)]

FISHER = '''
from problems.pde.heat import Heat


class Fisher(Heat):
    """A user's own problem."""


class Helper:
    """Not a problem."""
'''


@pytest.fixture
def fisher(tmp_path: Path) -> Path:
    path = tmp_path / "fisher.py"
    path.write_text(FISHER)
    return path


@pytest.mark.parametrize(("group", "name"), NAMED)
def test_the_file_says_what_the_class_is(group, name):
    entry = find(group, name)
    cls = entry.load()
    assert cls.name == name
    assert entry.source.summary == (cls.__doc__ or "").strip().partition("\n")[0]
    assert entry.source.summary
    assert list(entry.source.parameters()) == list(schema(cls.__init__))
    if issubclass(cls, Solver):
        assert (entry.needs, entry.kind) == (cls.needs.__name__, cls.kind)
    else:
        assert entry.views == tuple(view.__name__ for view in cls.views())


@pytest.mark.parametrize("name", entries("problem"))
def test_the_defaults_of_each_problem_fit_it(name):
    problem = find("problem", name)
    made = problem.load()()
    fit = fitting(made)
    assert default_solver(problem) in fit
    classical = baselines(problem)
    assert set(classical) & set(fit)
    assert {find("solver", name).kind for name in classical} == {"classical"}
    assert fit == tuple(s for s, e in entries("solver").items() if misfits(made)[s] is None and e.kind != "trivial")
    assert all(offers(problem, find("solver", s)) for s in fit)


def test_every_default_in_the_configuration_is_a_solver():
    known = entries("solver")
    for view, chosen in read_yaml(CONFIGS / "views.yaml").items():
        assert chosen["solver"] in known
        assert known[chosen["solver"]].needs == view
        assert all(known[name].needs == view for name in chosen["baseline"])


def test_a_users_file_is_found(fisher: Path):
    entry = find("problem", f"{fisher}:Fisher")
    assert entry.name == f"{fisher}:Fisher"
    assert entry.views == ("Residual",)
    assert entry.load()(diffusivity=0.5).settings == {"diffusivity": 0.5}


OWN_VIEW = """
from problems.pde.heat import Heat
from sciml.problem import Problem
from sciml.solver import Solver
from solvers.trivial import Trivial


class Question(Problem):
    pass


class Asked(Heat, Question):
    pass


class Answerer(Trivial):
    kind = "classical"
    needs = Question
"""

ATTRIBUTES = """
import sciml.views.residual
import sciml.solver as s
from problems.pde import heat
from sciml.views import residual
from solvers.pde import spectral


class Whole(sciml.views.residual.Residual):
    pass


class Fisher(heat.Heat):
    pass


class Method(spectral.Spectral):
    kind: str = "classical"
    needs = residual.Residual
"""


def test_a_problem_and_a_solver_of_one_file_share_its_view(tmp_path: Path):
    path = tmp_path / "own.py"
    path.write_text(OWN_VIEW)
    request = read_words([f"problem={path}:Asked", f"solver={path}:Answerer"])
    assert isinstance(request, Request)
    problem, solver = request.problem.entry.load()(), request.solver.entry.load()()
    assert isinstance(problem, solver.needs)
    assert misfit(problem, solver) is None
    assert (request.problem.entry.views, request.solver.entry.needs) == (("Residual", "Question"), "Question")


def test_two_files_of_one_name_are_two_modules(tmp_path: Path):
    loaded = []
    for folder, factor in (("a", 2), ("b", 3)):
        path = tmp_path / folder / "fisher.py"
        path.parent.mkdir()
        path.write_text(FISHER.replace('"""A user\'s own problem."""', f"factor = {factor}"))
        loaded.append(find("problem", f"{path}:Fisher").load())
    assert [cls.factor for cls in loaded] == [2, 3]
    assert [sys.modules[cls.__module__].Fisher for cls in loaded] == loaded
    assert [cls.name for cls in loaded] == ["fisher", "fisher"]


def test_a_file_is_read_as_python_reads_it(tmp_path: Path):
    path = tmp_path / "attributes.py"
    path.write_text(ATTRIBUTES)
    known = classes(path)
    assert known["Whole"].children_of("Problem") == ("Residual",)
    assert known["Fisher"].children_of("Problem") == ("Residual",)
    assert list(known["Fisher"].parameters()) == ["diffusivity"]
    assert (known["Method"].attribute("needs"), known["Method"].attribute("kind")) == ("Residual", "classical")


@pytest.mark.parametrize(
    "text",
    [
        "from problems.pde import heat\nclass Fisher(heat.Heat):\n    pass\n",
        "from problems.pde.heat import Heat as Fisher_\nclass Fisher(Fisher_):\n    pass\n",
        "import problems.pde.heat\nParent = problems.pde.heat.Heat\nclass Fisher(Parent):\n    pass\n",
        "from problems.pde.heat import *\nclass Fisher(Heat):\n    pass\n",
    ],
)
def test_any_way_to_inherit_is_taken(fisher: Path, text: str):
    fisher.write_text(text)
    request = read_words([f"problem={fisher}:Fisher", "solver=spectral", "problem.diffusivity=0.3"])
    assert isinstance(request, Request)
    _, (problem, solver, _) = compose(request)
    assert problem.settings == {"diffusivity": 0.3}
    assert misfit(problem, solver) is None
    assert default_solver(request.problem.entry) == default_solver(find("problem", "heat"))
    with pytest.raises(UserError, match="no parameter 'difusivity'"):
        read_words([f"problem={fisher}:Fisher", "problem.difusivity=0.3"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("heet", "did you mean 'heat'"),
        ("../heat", "expected letters"),
        ("Heat", "expected letters"),
        ("_grid", "no problem '_grid'"),
        ("nowhere.py:Heat", "no file 'nowhere.py' for the problem"),
        ("{file}:Fischer", "did you mean 'Fisher'"),
    ],
)
def test_an_unknown_name_is_answered(fisher: Path, name: str, message: str):
    with pytest.raises(UserError, match=message):
        find("problem", name.format(file=fisher))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class Fisher:\n    pass\n", "expected a class that inherits Problem"),
        ("import not_there_at_all\nclass Fisher:\n    pass\n", "needs the package 'not_there_at_all'"),
        ("class Fisher:\n    x = 1 / 0\n", "ZeroDivisionError"),
        (
            "from sciml.views.residual import Residual\nclass Fisher(Residual):\n    pass\n",
            "it lacks conditions, domain",
        ),
    ],
)
def test_a_file_that_fails_is_one_line(fisher: Path, text: str, message: str):
    fisher.write_text(text)
    with pytest.raises(UserError, match=message):
        find("problem", f"{fisher}:Fisher").load()


@pytest.mark.parametrize("text", ["class Fisher(:\n", "\0", "(" * 1000])
def test_a_file_that_is_not_python_is_one_line(fisher: Path, text: str):
    fisher.write_text(text)
    with pytest.raises(UserError, match="is not Python"):
        find("problem", f"{fisher}:Fisher")


def test_an_entry_point_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "wavepackage"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "fisher.py").write_text(FISHER)
    info = tmp_path / "wavepackage-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wavepackage\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sciml.problems]\nfisher_wave = wavepackage.fisher:Fisher\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = entries("problem")["fisher_wave"]
    assert entry.source.summary == "A user's own problem."
    with pytest.raises(UserError, match="imported"):
        entry.load()
    (info / "entry_points.txt").write_text("[sciml.problems]\nheat = wavepackage.fisher:Fisher\n")
    with pytest.raises(UserError, match="registered already"):
        entries("problem")


@pytest.mark.parametrize("name", ["problems", "solvers"])
def test_a_module_that_hides_ours_is_reported_in_one_line(tmp_path: Path, name: str):
    (tmp_path / f"{name}.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "sciml", "list"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"sciml: {tmp_path / name}.py hides the package {name!r} of sciml; rename it or run elsewhere"
    ]
