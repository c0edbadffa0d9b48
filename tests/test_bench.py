"""The benchmark around its cells: workers that succeed, crash, hang, eat memory or are killed."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from sciml.bench import pool
from sciml.bench.cells import fingerprint
from sciml.bench.choices import read_choices
from sciml.bench.command import main
from sciml.bench.runner import make_plan
from sciml.errors import UserError

WORKER = textwrap.dedent(
    """
    import csv, json, os, pathlib, sys, time

    words = dict(word.split("=", 1) for word in sys.argv[1:])
    folder = pathlib.Path(words["run.dir"])
    folder.mkdir(parents=True)
    with open(os.environ["CALLS"], "a") as calls:
        calls.write(json.dumps(words | {"threads": os.environ["OMP_NUM_THREADS"]}) + "\\n")
    behaviour = json.loads(os.environ.get("BEHAVIOUR", "{}")).get(words["solver"], "work")
    if behaviour == "crash":
        sys.exit("sciml: the Jacobian is singular at step 3")
    if behaviour == "hang":
        time.sleep(600)
    if behaviour == "eat":
        hoard = []
        while True:
            hoard.append(bytearray(20_000_000))
            time.sleep(0.02)
    if behaviour == "die":
        os.kill(os.getpid(), 9)
    if behaviour == "die once" and not pathlib.Path(os.environ["CALLS"] + ".died").exists():
        pathlib.Path(os.environ["CALLS"] + ".died").touch()
        os.kill(os.getpid(), 9)
    if behaviour == "ended once" and not pathlib.Path(os.environ["CALLS"] + ".ended").exists():
        pathlib.Path(os.environ["CALLS"] + ".ended").touch()
        sys.exit(143)
    if behaviour == "vanish":
        sys.exit(0)
    error = 10.0 ** -(2 + int(words["seed"]))
    metrics = {
        "status": "ok", "problem": words["problem"], "solver": words["solver"],
        "seed": int(words["seed"]), "kind": "classical", "primary": "relative_l2",
        "deterministic": words["solver"] == "spectral", "thresholds": [1e-2, 1e-4],
        "errors": {"relative_l2": error}, "seconds": {"setup": 0.1, "train": 0.5, "evaluate": 0.01, "whole": 0.6},
        "cpu_seconds": 0.6, "stop_reason": "solved",
    }
    origin = {"threads": int(os.environ["OMP_NUM_THREADS"]), "device": "cpu", "processor": "Xeon, 2 cores"}
    (folder / "provenance.json").write_text(json.dumps(origin))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    """
)


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Run the benchmark of heat with a made-up worker; return exit code, table and the worker's calls."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    script = tmp_path / "worker.py"
    script.write_text(WORKER)

    def run(*words, **behaviour):
        monkeypatch.setenv("BEHAVIOUR", json.dumps(behaviour))
        (tmp_path / "calls").write_text("")
        code = main(["problem=heat", *words], worker=(sys.executable, str(script)))
        calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
        return code, json.loads(Path("bench/table.json").read_text()), calls

    return run


def row(table, solver):
    (found,) = [r for p in table["problems"] for r in p["rows"] if r["solver"] == solver]
    return found


def test_every_cell_runs_once_and_never_again(bench, capsys):
    code, table, calls = bench("solver=pinn", "seed=0,1,2", "jobs=2")
    assert code == 0
    assert sorted(int(c["seed"]) for c in calls) == [0, 1, 2]
    assert row(table, "pinn")["errors"] == {"0": 1e-2, "1": 1e-3, "2": 1e-4}
    assert row(table, "pinn")["error"] == pytest.approx(1e-3)
    assert "[3/3]" in capsys.readouterr().out
    _, again, calls = bench("solver=pinn", "seed=0,1,2", "jobs=2")
    assert calls == []
    assert again["problems"] == table["problems"]
    _, _, calls = bench("solver=pinn", "seed=0,1,2,3")
    assert [c["seed"] for c in calls] == ["3"]
    _, _, calls = bench("solver=pinn", "seed=0", "problem.diffusivity=0.3")
    assert [c["problem.diffusivity"] for c in calls] == ["0.3"]


def test_a_classical_solver_runs_its_ladder(bench):
    _, table, calls = bench("solver=spectral", "seed=0")
    ladder = row(table, "spectral")["ladder"]
    assert len(ladder) >= 4
    values = [step["tolerance"] for step in ladder]
    assert values == sorted(values, reverse=True)
    assert len({c["run.dir"] for c in calls}) == len(calls)


def test_a_ladder_of_a_random_solver_runs_on_every_seed():
    (entry,) = make_plan(read_choices(["problem=two_moons", "solver=rejection_abc", "seed=0,1,2"])).entries
    assert [[cell.seed for cell in rung.cells] for rung in entry.rungs] == [[0, 1, 2]] * 4
    (entry,) = make_plan(read_choices(["problem=heat", "solver=spectral", "seed=0,1,2"])).entries
    assert [[cell.seed for cell in rung.cells] for rung in entry.rungs] == [[0]] * 4


def test_threads_are_the_cores_shared_among_jobs(bench):
    cores = len(os.sched_getaffinity(0))
    _, table, calls = bench("solver=trivial", "seed=0", f"jobs={cores}")
    assert calls[0]["threads"] == "1"
    assert table["runs_with"]["threads"] == ["1"]
    _, _, calls = bench("solver=trivial", "seed=1", "jobs=1")
    assert calls[0]["threads"] == str(cores)


def failure(table):
    (found,) = table["failed"]
    return found["reason"]


def test_a_crash_counts_as_infinite_error_with_its_reason(bench):
    code, table, calls = bench("solver=trivial", "seed=0", trivial="crash")
    assert code == 0
    assert len(calls) == 1, "a solver's own failure would only repeat"
    assert row(table, "trivial")["error"] == "inf"
    assert row(table, "trivial")["seeds_finished"] == 0
    assert failure(table) == "exit code 1: sciml: the Jacobian is singular at step 3"
    _, table, calls = bench("solver=trivial", "seed=0")
    assert len(calls) == 1, "a failed cell runs again"
    assert row(table, "trivial")["error"] == 1e-2


def test_a_hanging_cell_ends_at_its_time_limit(bench):
    started = time.monotonic()
    _, table, _ = bench("solver=trivial", "seed=0", "timeout=1", trivial="hang")
    assert time.monotonic() - started < 30
    assert failure(table) == "time limit of 1 s"


@pytest.mark.skipif(not pool.memory_is_watched(), reason="the system does not tell how much memory is used")
def test_a_hungry_cell_ends_at_its_memory_limit(bench):
    _, table, _ = bench("solver=trivial", "seed=0", "memory=0.2", trivial="eat")
    assert failure(table) == "memory limit of 205 MiB"


def test_a_killed_cell_is_tried_again(bench):
    _, table, calls = bench("solver=trivial", "seed=0", trivial="die once")
    assert len(calls) == 2
    assert row(table, "trivial")["error"] == 1e-2
    _, table, calls = bench("solver=trivial", "seed=1", "retries=2", trivial="die")
    assert len(calls) == 3
    assert failure(table) == "killed by SIGKILL, 3 times"


def test_a_cell_that_sigterm_ended_is_tried_again_though_it_reports_an_exit_code(bench):
    _, table, calls = bench("solver=trivial", "seed=0", trivial="ended once")
    assert len(calls) == 2
    assert row(table, "trivial")["error"] == 1e-2
    codes = (143, -9, -40, 130, 255, 1, 0, None)
    named = ["SIGTERM", "SIGKILL", "signal 40", "SIGINT", None, None, None, None]
    assert [pool.killed_by(code) for code in codes] == named


def test_a_failure_says_how_its_row_is_judged(bench):
    bench("solver=spectral", "seed=0", spectral="crash")
    (metrics, *_) = [json.loads(p.read_text()) for p in Path("bench/heat/spectral").glob("*/metrics.json")]
    assert metrics["deterministic"] is True
    assert metrics["thresholds"] == [1e-2, 1e-4, 1e-6]


def test_a_cell_without_metrics_is_unfinished_and_not_counted(bench):
    _, table, _ = bench("solver=trivial", "seed=0", trivial="vanish")
    assert len(table["unfinished"]) == 1
    assert row(table, "trivial")["error"] is None
    assert table["problems"][0]["outcome"] == "undecided"


def alive(pattern):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if pattern in (folder / "cmdline").read_text():
                found.append(int(folder.name))
    return found


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_finished_cells_and_leaves_no_worker(tmp_path, sent):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    program = f"""
import sys
from sciml.bench.command import main
words = ["problem=heat", "solver=trivial,spectral", "seed=0"]
sys.exit(main(words, worker=(sys.executable, {str(script)!r})))
"""
    behaviour = {"spectral": "hang"}
    variables = {**os.environ, "CALLS": str(tmp_path / "calls"), "BEHAVIOUR": json.dumps(behaviour)}
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, env=variables, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while 'solver": "spectral' not in (tmp_path / "calls").read_text() if (tmp_path / "calls").exists() else True:
        assert time.monotonic() < deadline, "the hanging worker never started"
        time.sleep(0.1)
    done = list(tmp_path.glob("bench/heat/trivial/*/metrics.json"))
    process.send_signal(sent)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "same command goes on" in output
    assert [path for path in done if not path.exists()] == []
    assert alive(str(script)) == []
    assert json.loads((tmp_path / "bench/table.json").read_text())["unfinished"]


def test_two_benchmarks_never_share_a_folder(bench, tmp_path):
    import fcntl

    bench("solver=trivial", "seed=0")
    with (tmp_path / "bench/.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another benchmark"):
            bench("solver=trivial", "seed=0")


def test_a_pool_ends_grandchildren_that_left_the_group(tmp_path):
    child = """
import subprocess, sys, time
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(601.5)'], start_new_session=True)
time.sleep(600)
"""
    ended = []
    command = pool.Command("deep", (sys.executable, "-c", child), tmp_path / "log")
    pool.run([command], 1, pool.Limits(seconds=2), {}, lambda _, outcome: ended.append(outcome))
    assert ended[0].failure == "time limit of 2 s"
    assert alive("time.sleep(601.5)") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["problem=heet"], "did you mean 'heat'"),
        (["solver=spectrl"], "did you mean 'spectral'"),
        (["suite=thim"], "did you mean 'thin'"),
        (["job=2"], "did you mean 'jobs'"),
        (["trainr.max_steps=2"], "did you mean 'trainer'"),
        (["trainer.max_step=2"], "did you mean 'max_steps'"),
        (["problem=heat", "problem.diffusivty=2"], "did you mean 'diffusivity'"),
        (["problem.diffusivity=2"], "one name"),
        (["jobs=two"], "jobs should be a valid integer, got 'two'"),
        (["jobs=0"], "jobs should be greater than or equal to 1"),
        (["jobs=1,2"], "jobs takes one value"),
        (["seed=a"], "seed"),
        (["seed=0,-1"], "seed"),
        (["seed="], "seed"),
        (["timeout=-1"], "timeout should be greater than 0"),
        (["problem="], "problem"),
        (["heat"], "expected key=value, got 'heat'"),
        (["problem=heat", "trainer.max_steps=["], "cannot read"),
        (["timeout=[[[["], "cannot read '[[[[' as the value of timeout"),
        (["seed=" + "[" * 5000], "as the value of seed"),
        (["problem=heat,heet"], "did you mean 'heat'"),
    ],
)
def test_mistakes_are_answered_in_one_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        main(["problem=heat", "solver=trivial", *words] if not words[0].startswith("problem.") else words)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").touch()
    for text in ("README.md", "README.md/bench"):
        with pytest.raises(UserError, match=r"README.md is a file; name another"):
            main(["problem=heat", "solver=trivial", f"dir={text}"])


HEAVY = ("numpy", "pydantic", "torch", "hydra", "rich")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["bench", "--help"], 0),
        (["bench", "problem=heet"], 2),
        (["bench", "problem=heat", "solver=pinn,spectrl"], 2),
        (["bench", "job=2"], 2),
        (["bench", "problem=heat", "problem.diffusivty=2"], 2),
        (["bench", "trainer.max_step=2"], 2),
        (["table", "--help"], 0),
        (["table", "nowhere"], 2),
        (["table", "outt=x"], 2),
    ],
)
def test_help_and_typos_are_answered_without_heavy_imports(words, code):
    program = "import sys; from sciml.cli import main; code = main(sys.argv[1:]);"
    program += f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    said = done.stderr.splitlines()
    assert said[-1] == "[]"
    assert len(said) == 1 + (code == 2)


def test_malformed_values_and_files_for_folders_end_with_code_2(tmp_path, monkeypatch, capsys):
    from sciml.cli import main as sciml

    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").touch()
    mistakes = ["timeout=[[[[", "dir=README.md", "memory=${a}"]
    assert [sciml(["bench", "problem=heat", "solver=trivial", word]) for word in mistakes] == [2, 2, 2]
    assert sciml(["table", ".", "out=README.md"]) == 2
    assert sciml(["table", "README.md"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 5


def test_misfits_are_planned_with_their_reason():
    plan = make_plan(read_choices(["problem=heat", "solver=all"]))
    assert "trivial" in [entry.solver for entry in plan.entries]
    assert all(m.solver in m.reason and "heat" in m.reason for m in plan.misfits)
    assert {m.solver for m in plan.misfits}.isdisjoint(entry.solver for entry in plan.entries)


def test_the_suite_stands_below_the_command_line():
    suite = read_choices(["suite=thin"])
    assert suite.problem == ("heat", "burgers", "ieee14", "two_moons")
    assert (suite.solver, suite.seed) == (("all",), (0, 1, 2))
    assert read_choices(["problem=heat,burgers", "seed=4"]).problem == ("heat", "burgers")
    assert read_choices(["problem=heat", "seed=4"]).seed == (4,)


def test_values_reach_the_worker_as_train_takes_them():
    from sciml.configuration.compose import compose
    from sciml.configuration.words import Request, read_words

    words = [
        "problem=heat",
        "solver=pinn",
        "trainer.precision=32",
        "trainer.max_steps=7",
        "problem.diffusivity=0.25",
    ]
    (entry,) = make_plan(read_choices([*words, "seed=3"])).entries
    request = read_words(entry.cells[0].words)
    assert isinstance(request, Request)
    config, _ = compose(request)
    assert config.seed == 3
    assert config.problem["diffusivity"] == 0.25
    assert (config.trainer["precision"], config.trainer["max_steps"]) == ("32", 7)
    assert fingerprint(dataclasses.asdict(config)) == entry.config


def test_a_variant_of_a_problem_keeps_its_own_parameters():
    (entry,) = make_plan(read_choices(["problem=heat_fast", "solver=trivial", "seed=0"])).entries
    assert entry.problem == "heat"
    assert entry.question == "diffusivity=1.0"
