"""The command line: what it answers, how fast, and that no word ends in a traceback."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import sciml
from problems.pde.heat import Heat
from sciml.cli import COMMANDS, main
from sciml.configuration.compose import compose
from sciml.configuration.words import Request, read_words
from sciml.errors import UserError
from sciml.registry import entries
from sciml.runs.solution_file import read_state
from solvers.pde.spectral import Spectral

HEAVY = {"torch", "lightning", "sympy", "hydra", "numpy", "pydantic", "rich", "matplotlib"}
HEAT = ("train", "problem=heat", "solver=spectral", "solver.tolerance=1e-3")

SOLVERS = '''
import time
from sciml.errors import SolveError
from sciml.solver import Solver
from sciml.views.residual import Residual


class Slow(Solver[Residual]):
    """Takes its time."""

    kind = "classical"
    needs = Residual

    def solve(self, problem, context):
        context.progress.report(0.5, {"step": 1.0})
        time.sleep(600)

    def restore(self, problem, state):
        raise NotImplementedError


class Broken(Slow):
    """Breaks down."""

    def solve(self, problem, context):
        raise SolveError("the loss is not finite at step 7")


class Picky(Slow):
    """Refuses everything."""

    def refuses(self, problem):
        return "it is picky"
'''


LONG_STEP = '''
import sys
import time
from solvers.pde.pinn import PINN


class LongStep(PINN):
    """Stays in its first step."""

    def residuals(self, batch):
        print("in a step", file=sys.stderr, flush=True)
        time.sleep(600)
'''


def sciml_command(*words: str, folder: Path, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sciml", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def solvers(tmp_path: Path) -> Path:
    path = tmp_path / "slow.py"
    path.write_text(SOLVERS)
    return path


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 0),
        (("--help",), 0),
        (("list",), 0),
        *(((command, "--help"), 0) for command in ("train", "list", "show", "matrix", "dataset", "completion")),
        (("completion", "bash"), 0),
        (("lst",), 2),
        (("train", "problm=heat"), 2),
        (("train", "problem=heta"), 2),
        (("train", "problem=heat", "solver=spectrl"), 2),
        (("train", "problem=heat", "problem.difusivity=1"), 2),
        (("train", "problem=heat", "solver=spectral", "solver.tolerence=1"), 2),
        (("train", "problem=heat", "trainer.max_stps=1"), 2),
        (("train", "problem=heat", "solver=newton"), 2),
        (("show", "problem=heta"), 2),
    ],
)
def test_quick_answers_import_nothing_heavy(tmp_path: Path, words: tuple[str, ...], code: int):
    probe = f"""
import sys
from sciml.cli import main
code = main({list(words)!r})
heavy = sorted({HEAVY!r} & set(sys.modules))
assert not heavy, heavy
sys.exit(code)
"""
    limit = 0.2 if not words or "--help" in words else 0.4  # reading the files of all plug-ins takes its time
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", probe]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == code, done.stderr
        assert len(done.stderr.splitlines()) == (code == 2)
        # CPU seconds: wall-clock seconds also count whatever else the machine does.
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        if seconds < limit:
            return
    pytest.fail(f"three attempts took {limit} s of CPU time or more each")


MISTAKES = [
    (("lst",), "no command 'lst'; did you mean 'list'?"),
    (("list", "x"), "sciml list has no 'x'"),
    (("matrix", "x"), "takes no arguments"),
    (("show",), "expects one word"),
    (("show", "problm=heat"), "did you mean 'problem'"),
    (("completion", "fish"), "knows bash and zsh"),
    (("train",), "expected problem=<name> (known: "),
    (("train", "problem"), "expected key=value, got 'problem'"),
    (("train", "problem=heat", "sedd=1"), "no key 'sedd'; did you mean 'seed'?"),
    (("train", "problem=heat", "+seed=1"), "neither added nor removed"),
    (("train", "problem=heat", "~seed"), "neither added nor removed"),
    (("train", "problem=heat", "-m"), "no option '-m'"),
    (("train", "problem=heat", "--multirun"), "no option '--multirun'"),
    (("train", "problem=heat", "seed=1", "seed=2"), "seed is given twice"),
    (("train", "problem=heat", "seed=1,2"), "seed takes one value"),
    (("train", "problem=heat", "seed=range(3)"), "seed takes one value"),
    (("train", "problem=heat", "seed=-1"), "seed should be an integer from 0"),
    (("train", "problem=heat", "seed=1.5"), "seed should be an integer from 0"),
    (("train", "problem=heat", "compare=maybe"), "compare should be true or false"),
    (("train", "problem=../problem/heat"), "no problem '../problem/heat'"),
    (("train", "problem=heat,burgers"), "no problem 'heat,burgers'"),
    (("train", "problem=heat", "trainer=cup"), "did you mean 'cpu'? (known: auto, cpu, ddp, gpu)"),
    (("train", "problem=heat", "trainer=../problem/heat_fast"), "no trainer"),
    (("train", "problem=heat", "problem.diffusivty=1"), "did you mean 'diffusivity'? (known: diffusivity)"),
    (("train", "problem=heat", "problem.name=x"), "heat has no parameter 'name'"),
    (("train", "problem=heat", "problem._target_=os.system"), "name no code"),
    (("train", "problem=heat", "problem.diffusivity={_target_: os.system}"), "name no code"),
    (("train", "problem=heat", "problem.diffusivity=${oc.env:HOME}"), "refer to nothing"),
    (("train", "problem=heat", "problem.diffusivity=x"), "diffusivity should be a valid number, got 'x'"),
    (("train", "problem=heat", "problem.diffusivity=-1"), "diffusivity should be greater than 0, got -1"),
    (
        ("train", "problem=heat", "problem.diffusivity=1e999"),
        "diffusivity should be a finite number, got inf",
    ),
    (("train", "problem=heat", "problem.diffusivity=nan"), "diffusivity should be a finite number, got nan"),
    (("train", "problem=heat", "problem.diffusivity=&a [*a]"), "cannot read '&a [*a]'"),
    (("train", "problem=heat", "problem.diffusivity=" + "[" * 5000), "cannot read"),
    (("train", "problem=heat", "problem.diffusivity=" + "1" * 20000), "longer than"),
    (("train", "problem=heat", "problem.diffusivity=???"), "needs a value"),
    (("train", "problem=heat", "problem.diffusivity=1\n2"), "control characters"),
    (("train", "problem=heat", "trainer.precision=16"), "precision should be '64', '32' or 'bf16', got 16"),
    (("train", "problem=heat", "trainer.max_steps=0"), "max_steps should be greater than or equal to 1"),
    (
        ("train", "problem=heat", "solver=newton"),
        "newton needs the view Graph; heat offers Residual (solvers that fit: ",
    ),
    (("train", "resume=nowhere"), "cannot read 'nowhere/config.yaml'"),
    (("train", "resume=nowhere", "seed=1"), "leave out seed"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(w)[:60] for w, _ in MISTAKES])
def test_a_mistake_is_answered_in_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    solver = () if len(words) == 1 or any(w.startswith(("solver=", "resume=")) for w in words) else ("solver=spectral",)
    assert main([*words, *(solver if words[0] == "train" else ())]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    line = captured.err.splitlines()[-1]
    assert line.startswith("sciml: ")
    assert message in line
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback():
    with pytest.raises(UserError):
        main(["--debug", "lst"])


# fmt: off
_KEYS = [
    "problem", "solver", "trainer", "seed", "compare", "problem.diffusivity", "solver.tolerance",
    "solver.unknowns", "trainer.max_steps", "trainer.precision", "resume", "x", "problem.", ".",
    "problem.a.b",
]
_VALUES = [
    "heat", "spectral", "trivial", "cpu", "1", "-1", "0.5", "1e-3", "1e999", "nan", "inf", "null", "true",
    "None", "[]", "[1,2]", "{a:1}", "{a:{b:[1]}}", "'x'", '"', "'", "\\", "a=b", "a:b", "../x",
    "/etc/passwd", "x.py:X", "${oc.env:HOME}", "${x}", "$", "???", "&a", "*a", "!!python/object:os.system",
    "_target_", "1,2", "range(1)", "choice(1,2)", "glob(*)", "int(1)", "float(x)", "json_str(1)", "(", ")",
    "]", "[[", "{", "}", "ünï", "🙂", "%", "#", "@", "~", "+", "-", "0x10", "1_0", ":", "hydra", "--", "",
    " ", "a b", "\x00", "\t", "\n", "9" * 400, "[" * 300, "1" * 5000, "a" * 300 + ".py:X",
]
_GOOD = [
    "seed=1", "problem.diffusivity=0.5", "trainer=cpu", "trainer.max_steps=null", "trainer.precision=64",
    "compare=false",
]
# fmt: on


def _fuzzed(rng: random.Random) -> list[str]:
    """Return words of which some are right, some wrong and some broken."""
    words = ["problem=heat", "solver=spectral"] if rng.random() < 0.8 else []
    words += rng.sample(_GOOD, rng.randint(0, 3))
    for _ in range(rng.randint(0, 2)):
        prefix = rng.choice(["", "", "", "", "", "+", "++", "~", "-", "--"])
        words.append(prefix + rng.choice(_KEYS) + rng.choice(["=", "=", "=", "", "==", "@"]) + rng.choice(_VALUES))
    if words and rng.random() < 0.2:
        k = rng.randrange(len(words))
        cut = rng.randrange(len(words[k]) + 1)
        words[k] = words[k][:cut] + rng.choice(_VALUES) + words[k][cut:]
    return words


def _answer(words: list[str]) -> str | None:
    """Return the line that refuses the words, or None where they describe a run."""
    try:
        request = read_words(words)
        if isinstance(request, Request):
            compose(request)
    except UserError as error:
        return str(error)
    return None


def test_no_words_end_in_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    answers = [_answer(_fuzzed(rng)) for _ in range(400)]
    refusals = [answer for answer in answers if answer is not None]
    assert 100 < len(refusals) < 350
    assert max(map(len, refusals)) < 1000


def test_the_main_job(tmp_path: Path):
    done = sciml_command(*HEAT, "seed=1", "problem.diffusivity=0.2", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    *shown, last = done.stdout.splitlines()
    metrics = json.loads(last)
    run = tmp_path / metrics.pop("run")
    assert run.parent == tmp_path / "runs" / "heat" / "spectral"
    assert metrics == json.loads((run / "metrics.json").read_text())
    rows = [line.split() for line in shown if "spectral" in line or "trivial" in line]
    assert len(rows) >= 2
    assert any(line.startswith("run ") for line in shown)
    figure = next(line.split()[1] for line in shown if line.startswith("figure"))
    assert (tmp_path / figure).is_file()
    assert "s left" in done.stderr
    assert sciml.load(run).problem.settings == {"diffusivity": 0.2}
    again = sciml_command("train", f"resume={run}", "compare=false", folder=tmp_path)
    assert (again.returncode, "has ended already" in again.stderr) == (0, True)


def test_the_default_solver_is_named_and_its_line_is_compared(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", "problem=heat", "trainer.max_steps=3", "trainer.accelerator=cpu", "run.dir=here"]
    assert main(words) == 0
    captured = capsys.readouterr()
    request = read_words(["problem=heat"])
    assert isinstance(request, Request)
    name = request.solver.option
    assert f"solver={name}, the default for Residual" in captured.err
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in captured.out.splitlines() if line.startswith("│")
    ]
    assert [row[1] for row in rows] == ["neural", "classical", "trivial"]
    errors = [float(row[2].removesuffix(" †")) for row in rows]
    assert errors[1] < 1e-6 < errors[0]
    assert all(float(cell) >= 0 for row in rows for cell in row[3:5])
    assert Path("here/history.csv").is_file()
    assert main([*words, "--json"]) == 2
    captured = capsys.readouterr()
    assert "here is not empty" in captured.err
    assert not captured.out


def test_a_baseline_that_breaks_hides_no_run(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refusal = "expected [/] in the name"

    def break_down(*_: object) -> None:
        raise ValueError(refusal)

    monkeypatch.setattr(Spectral, "solve", break_down)
    assert main(["train", "problem=heat", "solver=trivial", "run.dir=here"]) == 0
    shown = capsys.readouterr().out
    assert "failed:" in shown
    assert "[/]" in shown
    assert any(line.split() == ["run", "here"] for line in shown.splitlines())


def test_a_comparison_that_fails_hides_no_run(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def break_down(*_: object) -> None:
        raise ValueError("no answer")

    monkeypatch.setattr(Heat, "trivial", break_down)
    assert main(["train", *HEAT[1:], "run.dir=here"]) == 1
    captured = capsys.readouterr()
    assert "no answer" in captured.err
    assert "spectral" in captured.out
    assert any(line.split() == ["run", "here"] for line in captured.out.splitlines())


def test_a_helper_of_a_finished_run_returns(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*HEAT, "run.dir=here", "compare=false"]) == 0
    capsys.readouterr()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("RANK", "1")

    def solve(*_: object) -> None:
        raise AssertionError("a finished run is solved again")

    monkeypatch.setattr(Spectral, "solve", solve)
    assert main(["train", "resume=here"]) == 0
    assert not capsys.readouterr().out


def test_a_users_own_problem_is_solved(tmp_path: Path):
    (tmp_path / "mine.py").write_text("from problems.pde.heat import Heat\n\n\nclass Rod(Heat):\n    pass\n")
    words = (
        "problem=mine.py:Rod",
        "solver=spectral",
        "solver.tolerance=1e-2",
        "compare=false",
        "run.dir=out",
    )
    done = sciml_command("train", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    with pytest.raises(UserError, match="trust=True"):
        sciml.load(tmp_path / "out")
    run = sciml.load(tmp_path / "out", trust=True)
    assert run.metrics["problem"] == "rod"
    assert run.problem.score(run.solution) == run.metrics["errors"]


def test_a_solver_that_refuses_is_refused_before_any_work(solvers: Path, capsys, monkeypatch):
    monkeypatch.chdir(solvers.parent)
    assert main(["train", "problem=heat", f"solver={solvers}:Picky"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "picky refuses heat: it is picky (solvers that fit: " in line
    assert "spectral" in line
    assert [p.name for p in solvers.parent.iterdir() if p.name != "__pycache__"] == ["slow.py"]


def test_a_solve_that_breaks_down_exits_with_1(solvers: Path, capsys, monkeypatch):
    monkeypatch.chdir(solvers.parent)
    assert main(["train", "problem=heat", f"solver={solvers}:Broken", "run.dir=out", "--json"]) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == "sciml: the loss is not finite at step 7"
    assert json.loads(captured.out.splitlines()[-1])["status"] == "failed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_in_one_line(solvers: Path, number: signal.Signals):
    command = [
        sys.executable,
        "-m",
        "sciml",
        "train",
        "problem=heat",
        f"solver={solvers}:Slow",
        "run.dir=out",
    ]
    process = subprocess.Popen(command, cwd=solvers.parent, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert any("step 1" in line for line in process.stderr)
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("sciml: ")
    metrics = json.loads((solvers.parent / "out" / "metrics.json").read_text())
    assert metrics["status"] == "interrupted"


@pytest.mark.parametrize("rows", [2, 9])
def test_a_killed_command_resumes_to_the_same_bits(tmp_path: Path, rows: int):
    words = (
        *("train", "problem=heat", "solver=pinn", "compare=false", "solver.width=8", "solver.points=64"),
        *("solver.method=lbfgs", "solver.adam_steps=60", "solver.steps=60", "solver.resample_every=40"),
        *("trainer.check_every=10", "trainer.checkpoint_every=15"),
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert sciml_command(*words, "run.dir=whole", folder=tmp_path).returncode == 0
    command = [sys.executable, "-m", "sciml", *words, "run.dir=cut"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        while not (cut / "history.csv").exists() or len((cut / "history.csv").read_text().splitlines()) <= rows:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert not (cut / "metrics.json").exists()
    assert sciml_command("train", "resume=cut", "compare=false", folder=tmp_path).returncode == 0
    expected, found = (read_state(folder / "solution.h5") for folder in (whole, cut))
    assert expected.keys() == found.keys()
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_a_second_signal_ends_a_training_at_once(tmp_path: Path):
    (tmp_path / "slow.py").write_text(LONG_STEP)
    words = ("problem=heat", "solver=slow.py:LongStep", "run.dir=out", "trainer.accelerator=cpu")
    command = [sys.executable, "-m", "sciml", "train", *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("in a step" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    assert errors.splitlines()[-1] == "sciml: interrupted"
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["status"], metrics["stop_reason"]) == ("interrupted", "interrupted twice")


def test_list_shows_everything(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for group in ("problem", "solver"):
        for name, entry in entries(group).items():
            assert any(line.split()[0] == name and entry.source.summary in line for line in shown.splitlines() if line)


def test_show_writes_the_equations_with_their_parameters(capsys):
    assert main(["show", "problem=heat"]) == 0
    shown = capsys.readouterr().out
    assert "-diffusivity*u_xx + u_t = 0" in shown
    assert "$- diffusivity u_{xx} + u_{t} = 0$" in shown
    assert "diffusivity: Positive = 0.1  κ, in length² / time." in shown
    assert "spectral" in shown.partition("solvers that fit:")[2]
    assert main(["show", "solver=spectral"]) == 0
    assert "heat" in capsys.readouterr().out.partition("problems that fit:")[2]


def test_show_tells_what_a_variant_sets(capsys):
    assert main(["show", "problem=ieee30"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("ieee30, a variant of grid\n")
    assert "case: str = 'ieee30'" in shown
    assert "p_load_bus7 [MW]" in shown


def test_matrix_gives_every_reason(capsys):
    assert main(["matrix"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == list(entries("solver"))
    table = {line.split()[0]: line.split()[1:] for line in lines[: len(entries("problem"))]}
    assert table.keys() == entries("problem").keys()
    refused = sum(row.count("-") for row in table.values())
    assert refused == len([line for line in lines[len(table) :] if line])
    assert "newton needs the view Graph; heat offers Residual" in lines


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sciml tr", ["train"]),
        ("sciml train problem=heat_", ["heat_2d", "heat_source", "heat_fast"]),
        ("sciml train problem=heat solver=spect", ["spectral"]),
        ("sciml train problem=heat problem.d", ["problem.diffusivity="]),
        ("sciml completion b", ["bash"]),
    ],
)
def test_bash_completes(tmp_path: Path, line: str, offered: list[str]):
    command = tmp_path / "sciml"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m sciml "$@"\n')
    command.chmod(0o755)
    script = f"""
compopt() {{ :; }}
source <(sciml completion bash)
COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}
last="${{COMP_LINE##*[ =]}}"
COMP_WORDS=(x "$last"); COMP_CWORD=1
_sciml
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == offered


def test_every_command_has_help_with_an_example(capsys):
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith("usage: sciml")
        assert f"sciml {command}" in shown.rpartition("example: ")[2]
