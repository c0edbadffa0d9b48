"""The table from run folders alone: who wins, seconds to an error, failures, and the files it writes."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sciml.bench.board import Row, Section, Step, assemble, outcome, titles
from sciml.bench.cells import Cell, Entry, Misfit, Plan, Rung
from sciml.bench.figures import median_curve, work_precision
from sciml.bench.records import Result, read_result
from sciml.bench.render import as_data, columns, texts
from sciml.bench.table import main
from sciml.errors import UserError
from sciml.solver import Kind


def write_run(
    folder,
    solver="pinn",
    kind="neural",
    seed=0,
    error: float | None = 1e-3,
    train=10.0,
    history=(),
    origin=None,
    **metrics,
):
    """Write a run folder as `sciml train` does; an error of None leaves it unfinished."""
    folder.mkdir(parents=True)
    problem = metrics.pop("diffusivity", 0.1)
    config = f"problem: {{name: heat, diffusivity: {problem}}}\nsolver: {{name: {solver}}}\n"
    config += f"trainer: {{}}\nseed: {seed}\n"
    (folder / "config.yaml").write_text(config)
    if history:
        rows = "".join(f"{i},{i},{s},adam,1.0,{e}\n" for i, (s, e) in enumerate(history))
        (folder / "history.csv").write_text("step,closures,seconds,phase,loss,error\n" + rows)
    if error is None:
        return folder
    content = {
        "status": "ok",
        "problem": "heat",
        "solver": solver,
        "kind": kind,
        "deterministic": solver == "spectral",
        "thresholds": [1e-2, 1e-4, 1e-6],
        "seed": seed,
        "primary": "relative_l2",
        "errors": {"relative_l2": error, "max": 7.0},
        "seconds": {"setup": 1.0, "train": train, "evaluate": 0.5},
        "cpu_seconds": 12.0,
        "stop_reason": "schedule",
        "notes": {"parameters": 1234},
    }
    (folder / "metrics.json").write_text(json.dumps(content | metrics))
    made = {"device": "cpu", "processor": "Xeon, 2 cores", "threads": 1, "git_commit": "c" * 40, "git_dirty": False}
    (folder / "provenance.json").write_text(json.dumps(made | (origin or {})))
    return folder


def run_of(solver="pinn", kind="neural", seed=0, error=1e-3, train=10.0, curve=(), failure=None, deterministic=False):
    return Result(
        folder=Path(f"{solver}-{seed}"),
        problem="heat",
        solver=solver,
        kind=kind,
        deterministic=deterministic,
        thresholds=(1e-2, 1e-4, 1e-6),
        seed=seed,
        question="",
        config="c0ffee",
        ended=0.0,
        score="relative_l2",
        error=error,
        failure=failure,
        stop_reason=failure or "schedule",
        train=train,
        evaluate=0.5,
        whole=train + 0.5,
        caveats=(),
        parameters=None,
        device="cpu",
        threads=1,
        processor="Xeon, 2 cores",
        commit=None,
        dirty=None,
        curve=() if failure else (*curve, (train, error)),
    )


def row_of(kind, *errors, deterministic=False):
    runs = [
        run_of(kind, kind, i, e, failure=None if math.isfinite(e) else "broke", deterministic=deterministic)
        for i, e in enumerate(errors)
    ]
    return Row(kind, kind, "c0ffee", len(errors), tuple(runs))


def board_row(board, solver):
    (found,) = [r for s in board.sections for r in s.rows if r.solver == solver]
    return found


def test_the_smaller_error_wins_where_intervals_do_not_overlap():
    classical, neural = row_of("classical", 1e-9, deterministic=True), row_of("neural", 1e-4, 2e-4, 1.5e-4)
    assert outcome([neural, classical]) == ("classical", [1])
    far = row_of("classical", 1e-1, deterministic=True)
    assert outcome([neural, far]) == ("neural", [0])


def test_overlapping_intervals_tie_and_failures_never_win():
    neural = row_of("neural", 1e-4, 1e-2, 1e-3)
    assert outcome([neural, row_of("classical", 1e-3, deterministic=True)])[0] == "tie"
    assert outcome([row_of("neural", 1e-9, math.inf), row_of("classical", 0.5, deterministic=True)]) == (
        "classical",
        [1],
    )
    assert outcome([row_of("neural", math.inf), row_of("classical", math.inf)]) == ("undecided", [])


def test_one_seed_of_a_random_method_neither_ties_nor_wins():
    exact, one = row_of("classical", 1e-9, deterministic=True), row_of("trivial", 0.5)
    assert outcome([exact, one]) == ("classical", [0])
    assert outcome([row_of("neural", 1e-3), exact]) == ("classical", [1])
    assert outcome([row_of("neural", 1e-12), exact]) == ("undecided", [0])
    scattered = row_of("classical", 1e-4, 1e-2, 1e-3)
    assert outcome([scattered, row_of("neural", 2e-3)]) == ("undecided", [0, 1]), "it may as well be the better"
    assert outcome([scattered, row_of("neural", 1e3)]) == ("classical", [0])


def test_the_trivial_answer_shares_no_tie_that_it_does_not_lead():
    trivial = row_of("trivial", 1e-3, 2e-3, 1.5e-3)
    assert outcome([trivial, row_of("neural", 1e-5, 1e-3, 1e-4)]) == ("neural", [1])
    assert outcome([trivial, row_of("neural", 1e-4, 1e-1, 1e-2)]) == ("tie", [0, 1])


def test_a_solver_that_would_win_with_more_effort_is_not_beaten():
    seeds = range(3)
    neural = Row("nre", "neural", "a", 3, tuple(run_of("nre", seed=k, error=0.5 + 0.01 * k) for k in seeds))
    default = tuple(run_of("abc", "classical", k, 0.8 + 0.01 * k) for k in seeds)
    finer = tuple(run_of("abc", "classical", k, 0.51 + 0.01 * k) for k in seeds)
    classical = Row("abc", "classical", "b", 3, default, (Step("simulations", 1000, finer),))
    assert outcome([neural, classical]) == ("tie", [0, 1])
    assert classical.best is not None
    assert classical.best[0] == "simulations=1000"
    partial = Row("abc", "classical", "b", 3, default, (Step("simulations", 1000, finer[:1]),))
    assert outcome([neural, partial]) == ("neural", [0])


def test_two_leaders_of_one_kind_still_win():
    near = row_of("neural", 1e-4, 2e-4, 3e-4), row_of("neural", 1.1e-4, 2e-4, 3e-4)
    rows = [*near, row_of("classical", 1, deterministic=True)]
    assert outcome(rows) == ("neural", [0, 1])


def test_seconds_to_an_error_come_from_the_history():
    curve = ((1.0, 0.5), (2.0, 9e-3), (3.0, 2e-2), (4.0, 9e-5))
    row = Row("pinn", "neural", "", 1, (run_of(error=5e-5, train=5.0, curve=curve),))
    assert row.seconds_to(1e-2) == 2.5, "the first time it fell so far, and one evaluation"
    assert row.seconds_to(1e-4) == 4.5
    assert row.seconds_to(6e-5) == 5.5, "the end counts"
    assert row.seconds_to(1e-6) == math.inf


def test_seconds_to_an_error_are_the_median_over_seeds_with_failures_infinite():
    reached = [run_of(seed=k, error=1e-5, train=10.0 * (k + 1)) for k in range(2)]
    failed = run_of(seed=2, error=math.inf, failure="NaN")
    assert Row("pinn", "neural", "", 3, (*reached, failed)).seconds_to(1e-4) == 20.5
    assert Row("pinn", "neural", "", 3, (reached[0], failed, failed)).seconds_to(1e-4) == math.inf


def test_a_ladder_gives_the_seconds_of_its_coarsest_sufficient_run():
    steps = tuple(
        Step("tolerance", 10.0**-k, (run_of("spectral", "classical", 0, 10.0**-k, train=k),)) for k in (1, 3, 5, 7)
    )
    row = Row("spectral", "classical", "", 1, steps[-1].runs, steps)
    assert [row.seconds_to(t) for t in (1e-2, 1e-4, 1e-6, 1e-8)] == [3.5, 5.5, 7.5, math.inf]


def test_a_step_of_a_ladder_is_the_median_over_seeds_with_failures_infinite():
    good, bad = run_of(error=1e-3, train=1.0), run_of(seed=1, error=1e-1, train=3.0)
    failed = run_of(seed=2, error=math.inf, failure="singular")
    step = Step("simulations", 10, (good, bad, failed))
    assert (step.error, step.seconds) == (1e-1, 3.5)
    assert Step("simulations", 10, (good, failed, failed)).error == math.inf


def test_plain_run_folders_make_a_table(tmp_path):
    for seed, error in enumerate((1e-2, 1e-3, 1e-4)):
        write_run(tmp_path / f"heat/pinn/{seed}", seed=seed, error=error)
    write_run(tmp_path / "heat/spectral/0", "spectral", "classical", error=1e-9)
    write_run(tmp_path / "heat/pinn/dead", seed=7, error=None)
    board = assemble([tmp_path])
    pinn = board_row(board, "pinn")
    assert pinn.estimate is not None
    assert pinn.estimate.mean == pytest.approx(1e-3)
    assert (pinn.finished, pinn.planned) == (3, 3)
    assert board.unfinished == (tmp_path / "heat/pinn/dead",)


def test_a_seed_run_twice_counts_once_by_its_latest_run(tmp_path):
    import os

    old = write_run(tmp_path / "b", error=1e-1)
    write_run(tmp_path / "a", error=1e-3)
    os.utime(old / "metrics.json", (1, 1))
    assert [r.error for r in board_row(assemble([tmp_path]), "pinn").runs] == [1e-3]


def test_other_parameters_of_a_problem_are_another_problem(tmp_path):
    write_run(tmp_path / "a", error=1e-3)
    write_run(tmp_path / "b", error=1e-2, diffusivity=0.2)
    assert sorted(s.title for s in assemble([tmp_path]).sections) == [
        "heat diffusivity=0.1",
        "heat diffusivity=0.2",
    ]


def test_problems_of_one_name_are_called_by_what_they_differ_in():
    grid = "case={} train_outages=[0, 1] load_spread={}"
    asked = [("grid", grid.format("ieee14", 0.2)), ("grid", grid.format("ieee300", 0.1)), ("heat", "diffusivity=0.1")]
    assert titles(asked) == ["grid case=ieee14 load_spread=0.2", "grid case=ieee300 load_spread=0.1", "heat"]


@pytest.mark.parametrize("error", [None, math.nan, -1.0])
def test_an_error_that_is_no_number_is_a_failure(tmp_path, error):
    write_run(tmp_path / "a", errors={"relative_l2": error})
    run = read_result(tmp_path / "a")
    assert run is not None
    assert (run.error, run.failure is None) == (math.inf, False)


def test_a_truncated_file_of_metrics_is_an_unfinished_run(tmp_path):
    folder = write_run(tmp_path / "a")
    (folder / "metrics.json").write_text('{"status": "comp')
    assert read_result(folder) is None
    assert assemble([tmp_path]).unfinished == (folder,)


@pytest.fixture
def benchmark(tmp_path):
    """A benchmark: pinn with a failed seed, spectral with a ladder, an exact zero, and a misfit."""
    history = [(1.0, 0.5), (4.0, 8e-3)]
    cells = {"pinn": [], "spectral": [], "trivial": []}
    for seed in range(3):
        cells["pinn"].append(Cell(f"heat/pinn/{seed}", seed, ()))
        failure = {"status": "failed", "stop_reason": "time limit of 60 s", "errors": {}} if seed == 2 else {}
        write_run(tmp_path / f"heat/pinn/{seed}", seed=seed, error=1e-3, history=history, **failure)
    rungs = []
    for k in (2, 4, 6, 8):
        folder = f"heat/spectral/{k}"
        rungs.append(Rung("tolerance", 10.0**-k, (Cell(folder, 0, ()),)))
        write_run(tmp_path / folder, "spectral", "classical", error=10.0 ** -(k + 1), train=0.1 * k)
    cells["spectral"].append(rungs[-1].cells[0])
    cells["trivial"].append(Cell("heat/trivial/0", 0, ()))
    write_run(tmp_path / "heat/trivial/0", "trivial", "trivial", error=0.0, train=0.0)
    write_run(tmp_path / "heat/spectral/other", "spectral", "classical", error=1e-15, seed=5)
    kinds: dict[str, Kind] = {"pinn": "neural", "spectral": "classical", "trivial": "trivial"}
    entries = tuple(
        Entry(
            "heat",
            "diffusivity=0.1",
            name,
            kinds[name],
            "c0ffee",
            tuple(own),
            tuple(rungs) if name == "spectral" else (),
        )
        for name, own in cells.items()
    )
    misfits = (Misfit("heat", "nre", "neural", "nre needs the view Simulator; heat offers Residual"),)
    Plan(entries, misfits, {"jobs": 1}).write(tmp_path)
    return tmp_path


def test_a_plan_says_what_counts(benchmark):
    board = assemble([benchmark])
    pinn, spectral, trivial = (board_row(board, name) for name in ("pinn", "spectral", "trivial"))
    assert pinn.estimate is not None
    assert pinn.estimate.mean == math.inf
    assert (pinn.finished, pinn.planned) == (2, 3)
    assert [s.value for s in spectral.steps] == [1e-2, 1e-4, 1e-6, 1e-8]
    assert [r.seed for r in spectral.runs] == [0], "a run that is not planned does not count"
    assert trivial.verdict == "undecided", "its one seed need not stand for others"
    (section,) = board.sections
    shown = dict(zip([c.title for c in columns(section)], texts(spectral, section), strict=True))
    assert shown["s to 1e-4"] == f"{0.1 * 4 + 0.5:.2g}"
    assert shown["train, s"] == "–", "a classical solver has nothing to train"
    assert shown["solve, s"] == f"{0.1 * 8 + 0.5:.2g}"
    pinn_shown = dict(zip([c.title for c in columns(section)], texts(pinn, section), strict=True))
    assert (pinn_shown["error [95 % interval]"], pinn_shown["seeds"]) == ("inf", "2/3")
    assert (pinn_shown["s to 1e-2"], pinn_shown["s to 1e-6"]) == ("4.5", "not reached")
    trivial_shown = texts(trivial, section)
    assert any("≤ 2.2e-16" in text for text in trivial_shown)


def test_plain_runs_are_judged_as_those_of_a_benchmark(tmp_path):
    write_run(tmp_path / "a", "spectral", "classical", error=1e-9, thresholds=[0.5])
    write_run(tmp_path / "b", "trivial", "trivial", error=0.5, thresholds=[0.5])
    (section,) = assemble([tmp_path]).sections
    assert (section.outcome, section.thresholds) == ("classical", (0.5,))
    assert [row.deterministic for row in section.rows] == [True, False]


def remarks(tmp_path):
    main([str(tmp_path)])
    return [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("- ")]


def test_remarks_say_in_what_runs_differ(tmp_path):
    write_run(tmp_path / "a", seed=0)
    write_run(tmp_path / "b", seed=1)
    assert remarks(tmp_path) == ["- All runs with threads 1, processor Xeon, 2 cores, commit cccccccccc"]
    write_run(tmp_path / "c", seed=2, origin={"threads": 2, "git_dirty": True})
    assert remarks(tmp_path) == [
        "- All runs with processor Xeon, 2 cores",
        "- Runs differ in: threads (1, 2), commit (cccccccccc, cccccccccc with changes)",
    ]


def test_remarks_say_which_runs_a_limit_ended(tmp_path):
    for seed, reason in enumerate(("max_seconds", "schedule", "max_seconds", "max_steps")):
        write_run(tmp_path / str(seed), seed=seed, stop_reason=reason)
    assert remarks(tmp_path)[:2] == [
        "- † heat with pinn: stopped by max\\_seconds in 2 of 4 seeds",
        "- † heat with pinn: stopped by max\\_steps in 1 of 4 seeds",
    ]


def test_the_headline_counts_both_kinds(tmp_path):
    for k, (problem, classical) in enumerate({"a": 1e-9, "b": 1e-9, "c": 1.0}.items()):
        for seed in range(3):
            base = {"problem": problem, "diffusivity": k}
            write_run(tmp_path / problem / f"n{seed}", seed=seed, error=1e-3 * (1 + seed / 10), **base)
            write_run(tmp_path / problem / f"c{seed}", "fd", "classical", seed, classical * (1 + seed / 10), **base)
    assert assemble([tmp_path]).headline == "Of 3 problems: classical wins 2, neural wins 1, ties 0"


def test_the_command_writes_every_file(benchmark, tmp_path, capsys):
    out = tmp_path / "made"
    assert main([str(benchmark), f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert "Does not fit: heat with nre" in printed
    assert "time limit of 60 s" in printed
    assert "Of 1 problem: " in printed
    data = json.loads((out / "table.json").read_text())
    assert {r["solver"] for r in data["problems"][0]["rows"]} == {"pinn", "spectral", "trivial"}
    assert data["misfits"][0]["reason"].startswith("nre needs")
    with (out / "table.csv").open() as file:
        rows = {r["solver"]: r for r in csv.DictReader(file)}
    assert float(rows["spectral"]["error"]) == 1e-9
    assert rows["pinn"]["error"] == "inf"
    assert rows["pinn"]["seconds_to_1e-6"] == "not reached"
    page = (out / "table.md").read_text()
    assert "| spectral | classical | 1.0e-09 |" in page
    picture = out / "work-precision/heat.png"
    assert "(work-precision/heat.png)" in page
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert list(out.rglob(".*")) == [], "no temporary file stays"


def test_the_table_never_trains_and_needs_no_torch(benchmark):
    program = (
        "import sys; from sciml.bench.table import main; code = main([sys.argv[1]]);"
        "print('torch' in sys.modules, file=sys.stderr); sys.exit(code)"
    )
    before = {p: p.stat().st_mtime_ns for p in benchmark.rglob("*") if p.is_file()}
    done = subprocess.run([sys.executable, "-c", program, str(benchmark)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "False"
    assert all(p.stat().st_mtime_ns == t for p, t in before.items())


def test_json_holds_no_infinity(benchmark):
    data = as_data(assemble([benchmark]))
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_markdown_keeps_marks_in_names_harmless(tmp_path):
    write_run(tmp_path / "a", "evil|<script>", error=1e-3)
    main([str(tmp_path)])
    page = (tmp_path / "table.md").read_text()
    assert "<script>" not in page
    assert "evil\\|&lt;script>" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "no folder 'nowhere'"),
        ([], "no folder 'bench'"),
        (["."], "expected folders with runs, found none in ."),
        (["outt=x"], "did you mean 'out'"),
    ],
)
def test_mistakes_are_answered_in_one_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        main(words)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_damaged_plan_is_named(benchmark):
    (benchmark / "bench.json").write_text('{"entries": 3}')
    with pytest.raises(UserError, match=r"bench.json is not a benchmark's plan: entries"):
        assemble([benchmark])


def test_the_median_curve_is_the_median_of_the_last_errors_before_each_time():
    curves = [((1.0, 1.0), (2.0, 0.1)), ((1.0, 0.5), (3.0, 0.2)), ((2.0, 0.9),)]
    runs = tuple(run_of(seed=k, error=c[-1][1], train=10.0, curve=c) for k, c in enumerate(curves))
    clock, errors = median_curve(Row("pinn", "neural", "", 3, runs))
    assert clock[0] == pytest.approx(2.5)
    assert clock[-1] == pytest.approx(10.5)
    assert errors[0] == 0.5
    assert errors[-1] == 0.2
    assert (np.diff(errors) <= 0).all()


def test_survivors_are_not_drawn_as_the_ordinary_run():
    from matplotlib.figure import Figure

    from sciml.bench.figures import draw

    def marks(*errors):
        axes = Figure().add_subplot()
        draw(axes, row_of("neural", *errors), "black")
        large = [line for line in axes.lines if line.get_markersize() == 8 and len(np.asarray(line.get_xdata()))]
        return len(large), axes.get_legend_handles_labels()[1]

    assert marks(1e-3, 2e-3, math.inf) == (0, ["neural, 2 of 3 seeds"])
    assert marks(1e-3, 2e-3, 3e-3) == (1, ["neural"])


def test_a_figure_needs_an_answer(tmp_path):
    row = Row("pinn", "neural", "", 1, (run_of(error=math.inf, failure="broke"),))
    path = tmp_path / "figure.png"
    assert not work_precision(Section("heat", "heat", (row,), "undecided"), path)
    assert not path.exists()
