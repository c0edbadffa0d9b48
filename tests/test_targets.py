"""What a suite expects of its solvers: read, kept in the plan, compared with medians over seeds."""

import json
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from sciml.bench import choices, runner
from sciml.bench.board import assemble
from sciml.bench.cells import read_plan
from sciml.bench.choices import read_choices
from sciml.bench.command import main
from sciml.bench.render import markdown
from sciml.bench.runner import make_plan
from sciml.bench.targets import Target
from sciml.configuration.choices import CONFIGS, choose
from sciml.errors import UserError

WORKER = textwrap.dedent(
    """
    import json, os, pathlib, sys

    words = dict(word.split("=", 1) for word in sys.argv[1:])
    seed, solver = int(words["seed"]), words["solver"]
    error, whole = json.loads(os.environ["ANSWERS"])[solver][seed]
    if error is None:
        sys.exit("sciml: the loss is not finite")
    folder = pathlib.Path(words["run.dir"])
    folder.mkdir(parents=True)
    metrics = {
        "status": "ok", "problem": words["problem"], "solver": solver, "seed": seed, "kind": "neural",
        "primary": "relative_l2", "deterministic": False, "thresholds": [1e-2],
        "errors": {"relative_l2": error}, "seconds": {"train": whole / 2, "evaluate": 0.0, "whole": whole},
        "stop_reason": "max_seconds" if solver == "dgm" else "schedule",
        "notes": {"tolerance_met": "no"} if solver == "pinn" and seed == 1 else {},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    """
)
TARGETS = {
    "heat": {"pinn": {"error": 1e-3, "seconds": 20}, "dgm": {"error": 1e-3, "seconds": 20.0}},
    "burgers": {"pinn": {"error": 1e-5, "seconds": 60}},
}


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that makes the suite ``aims`` the only one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs" / "suite").mkdir(parents=True)
    base = {"problem": ["heat"], "solver": ["pinn", "dgm"], "seed": [0, 1, 2], "targets": TARGETS}
    for module in (choices, runner):
        monkeypatch.setattr(module, "CONFIGS", tmp_path / "configs")
    (tmp_path / "configs" / "bench.yaml").write_text("suite: aims\n")

    def write(**values):
        (tmp_path / "configs" / "suite" / "aims.yaml").write_text(yaml.safe_dump({**base, **values}))

    write()
    return write


@pytest.fixture
def bench(suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the suite with given (error, seconds) by solver and seed; return the targets of the table."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)

    def run(**answers):
        monkeypatch.setenv("ANSWERS", json.dumps(answers))
        assert main(["suite=aims"], worker=(sys.executable, str(script))) == 0
        return {v["solver"]: v for v in json.loads(Path("bench/table.json").read_text())["targets"]}

    return run


def test_a_target_is_met_by_the_medians_of_all_seeds(bench, capsys: pytest.CaptureFixture[str]) -> None:
    met = [[1e-4, 5.0], [5e-1, 99.0], [9e-4, 19.0]]
    found = bench(pinn=met, dgm=[[1e-4, 5.0], [1e-4, 21.0], [1e-4, 22.0]])
    assert found["pinn"] == {
        "problem": "heat",
        "solver": "pinn",
        "target": {"error": 1e-3, "seconds": 20.0},
        "error": 9e-4,
        "seconds": 19.0,
        "seeds_answered": 3,
        "seeds_planned": 3,
        "met": True,
    }
    assert (found["dgm"]["error"], found["dgm"]["seconds"], found["dgm"]["met"]) == (1e-4, 21.0, False), "too slow"
    printed = capsys.readouterr().out
    assert "Targets: 1 of 2 met" in printed
    (row,) = [line.split() for line in printed.splitlines() if line.split()[:3] == ["heat", "dgm", "1e-3"]]
    assert row == ["heat", "dgm", "1e-3", "1.0e-04", "20", "21", "3/3", "no"]


def test_one_seed_that_fails_misses_the_target(bench) -> None:
    answers = [[1e-4, 5.0], [None, None], [1e-4, 7.0]]
    found = bench(pinn=answers, dgm=[[2e-3, 1.0]] * 3)["pinn"]
    assert (found["error"], found["seconds"], found["seeds_answered"], found["met"]) == (1e-4, 6.0, 2, False)


def test_the_table_from_folders_alone_has_the_same_targets(bench) -> None:
    bench(pinn=[[1e-4, 5.0]] * 3, dgm=[[2e-3, 1.0]] * 3)
    board = assemble([Path("bench")])
    assert [(v.solver, v.met) for v in board.targets] == [("pinn", True), ("dgm", False)]
    lines = markdown(board, {}).splitlines()
    assert lines[lines.index("## Targets: 1 of 2 met") + 4] == "| heat | pinn | 1e-3 | 1.0e-04 | 20 | 5 | 3/3 | yes |"


def test_an_answer_that_falls_short_is_marked(bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench(pinn=[[1e-4, 5.0]] * 3, dgm=[[2e-3, 1.0]] * 3)
    printed = capsys.readouterr().out
    assert "† heat with pinn: tolerance not met in 1 of 3 seeds" in printed
    assert "† heat with dgm: stopped by max_seconds in 3 of 3 seeds" in printed
    marked = [line.split()[0] for line in printed.splitlines() if "] †" in line]
    assert marked == ["pinn", "dgm"]


def test_a_pair_that_does_not_fit_misses_its_target(suite) -> None:
    aim = {"error": 1e-3, "seconds": 1.0}
    suite(problem=["galton"], targets={"galton": {"pinn": aim}})
    plan = make_plan(read_choices(["suite=aims", "seed=0"]))
    plan.write(Path())
    assert read_plan(Path()) == plan
    (verdict,) = assemble([Path()]).targets
    assert (verdict.problem, verdict.solver, verdict.target, verdict.met) == ("galton", "pinn", Target(**aim), False)


def test_a_classical_solver_has_as_much_time_as_any_network(suite) -> None:
    suite(solver=["pinn", "dgm", "spectral", "trivial"], trainer={"max_seconds": 5})
    plan = make_plan(read_choices(["suite=aims", "seed=0"]))
    words = {e.solver: [w for c in e.runs() for w in c.words if "max_seconds" in w] for e in plan.entries}
    longest = runner.WITHIN * max(target["seconds"] for target in TARGETS["heat"].values())
    assert set(words["spectral"]) == {f"trainer.max_seconds={longest}"}
    assert set(words["trivial"]) == {"trainer.max_seconds=5"}


def test_variants_of_a_problem_have_targets_of_their_own(suite, tmp_path: Path) -> None:
    (tmp_path / "configs" / "problem").symlink_to(CONFIGS / "problem")
    fast = {"pinn": {"error": 1e-6, "seconds": 9.0}}
    suite(problem=["heat", "heat_fast"], solver=["pinn"], targets={**TARGETS, "heat_fast": fast})
    plan = make_plan(read_choices(["suite=aims", "seed=0"]))
    wanted = {"diffusivity=0.1": Target(1e-3, 20.0), "diffusivity=1.0": Target(1e-6, 9.0)}
    assert {e.question: e.target for e in plan.entries} == wanted
    assert [e.cells[0].words[0] for e in plan.entries] == ["problem=heat", "problem=heat_fast"]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"heet": {}}, "no problem 'heet'; did you mean 'heat'"),
        ({"heat": {"pin": {}}}, "no solver 'pin'; did you mean 'pinn'"),
        ({"heat": {"pinn": {"error": 1e-3}}}, "the target of heat with pinn needs a value for seconds"),
        ({"heat": {"pinn": {"error": 0.0, "seconds": 1.0}}}, "error should be greater than 0, got 0.0"),
        ({"heat": {"pinn": {"errror": 1e-3, "seconds": 1.0}}}, "no parameter 'errror'; did you mean 'error'"),
    ],
)
def test_a_target_that_makes_no_sense_is_refused(suite, targets, message: str) -> None:
    suite(targets=targets)
    with pytest.raises(UserError, match=message):
        make_plan(read_choices(["suite=aims", "seed=0"]))


def test_the_suite_of_differential_equations_fits_its_targets() -> None:
    asked = read_choices(["suite=pde"])
    plan = make_plan(asked)
    aims = sum(len(each) for each in asked.targets.values())
    assert sum(e.target is not None for e in plan.entries) == aims, "a target of a pair that does not fit"
    fitting = {e.problem for e in plan.entries if e.kind != "trivial"}
    assert fitting == {choose("problem", word).entry.name for word in asked.problem}


def test_a_training_has_the_time_of_its_target_and_others_that_of_the_suite(suite) -> None:
    suite(targets={"heat": {"pinn": {"error": 1e-3, "seconds": 20}}}, trainer={"max_seconds": 15})
    limits = {e.solver: e.cells[0].words for e in make_plan(read_choices([])).entries}
    assert "trainer.max_seconds=19.0" in limits["pinn"]
    assert "trainer.max_seconds=15" in limits["dgm"]
    suite(targets={"heat": {"pinn": {"error": 1e-3, "seconds": 20}}})
    limits = {e.solver: e.cells[0].words for e in make_plan(read_choices([])).entries}
    assert not any("max_seconds" in word for word in limits["dgm"])


def test_parameters_of_a_suite_wait_for_solvers_that_are_asked_for(suite) -> None:
    suite(solver_parameters={"pinn": {"width": 8}, "dgm": {"width": 9}})
    (entry,) = make_plan(read_choices(["solver=dgm"])).entries
    assert "solver.width=9" in entry.cells[0].words


def test_a_suite_gives_a_solver_parameters_for_one_problem(suite) -> None:
    own = {"heat": {"pinn": {"width": 9, "depth": 2}}}
    suite(problem=["heat", "wave"], solver=["pinn"], targets={}, pair_parameters=own)

    def widths(*words: str) -> list[set[str]]:
        plan = make_plan(read_choices(words))
        return [{w for w in e.cells[0].words if w.startswith("solver.")} for e in plan.entries]

    assert widths() == [{"solver.width=9", "solver.depth=2"}, set()]
    assert widths("solver=pinn", "solver.width=7") == [{"solver.width=7", "solver.depth=2"}, {"solver.width=7"}]


def test_parameters_of_a_pair_are_checked(suite) -> None:
    suite(targets={}, pair_parameters={"heat": {"pinn": {"widht": 9}}})
    with pytest.raises(UserError, match="no parameter 'widht'; did you mean 'width'"):
        make_plan(read_choices([]))


def test_ladders_run_as_many_seeds_as_the_suite_says(suite) -> None:
    suite(solver=["rfm"], targets={}, ladder_seeds=2)
    (entry,) = make_plan(read_choices([])).entries
    assert [[cell.seed for cell in rung.cells] for rung in entry.rungs] == [[0, 1]] * 4
    assert len(entry.cells) == 3
    (entry,) = make_plan(read_choices(["solver=rfm", "solver.tolerance=1e-4"])).entries
    assert not entry.rungs, "what is set is not varied"
