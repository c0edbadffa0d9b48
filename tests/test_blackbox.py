"""Black boxes and kept simulations: failures stay in their rows, nothing is lost or made twice."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray

import sciml
from problems.inference.two_moons import TwoMoons
from sciml.errors import SolveError, UserError
from sciml.inference.blackbox import BlackBox, Executable
from sciml.inference.draws import CommonDraws, RandomDraws
from sciml.inference.priors import Prior, box
from sciml.inference.tape import joint_ratio
from sciml.problem import Variable
from solvers.inference.rejection_abc import RejectionABC


class Line(BlackBox):
    """Two noisy points of a line, by numpy's global generator; some parameters break it."""

    parameters = (Variable("offset"), Variable("slope"))
    data = (Variable("y_1"), Variable("y_2"))

    def prior(self) -> Prior:
        return box((0, 0), (1, 1))

    def run(self, theta: np.ndarray, seed: int) -> Any:
        return theta[0] + theta[1] * np.array([1, 2]) + 0.1 * np.random.standard_normal(2)  # noqa: NPY002

    def observed(self) -> np.ndarray:
        return np.array([1.0, 1.5])

    def reference(self) -> np.ndarray:
        return np.full((10, 2), 0.5)


class Fragile(Line):
    """A line that fails in a way for each tenth of its offset."""

    def run(self, theta: np.ndarray, seed: int) -> Any:
        match int(10 * theta[0]):
            case 0:
                raise ValueError("no such\nline")
            case 1:
                return [np.nan, 1.0]
            case 2:
                time.sleep(60)
            case 3:
                os._exit(7)
            case 4:
                return [1.0, 2.0, 3.0]
            case 5:
                return ["one", "two"]
            case 6:
                sys.exit(3)
            case 7:
                return [1j, 0]
        return super().run(theta, seed)


FAILURES = {  # by the first decimal of the offset
    0: "ValueError: no such",
    1: "it returned NaN or infinity",
    2: "it took longer than 0.3 s",
    3: "its process ended with exit code 7",
    4: r"expected 2 numbers, got shape \(3,\)",
    5: "expected real numbers, got",
    6: "SystemExit: 3",
    7: "expected real numbers, got",
}


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCIML_SIMULATIONS", str(tmp_path))
    return tmp_path


def files(store: Path) -> list[Path]:
    return sorted(store.rglob("shard-*.h5"))


def test_a_function_is_run_with_the_law_it_has() -> None:
    found = Line().simulations(400, seed=1)
    noise = (found.x - found.theta[:, :1] - found.theta[:, 1:] * torch.tensor([1.0, 2.0])) / 0.1
    assert noise.mean().abs() < 4 / 800**0.5
    assert float(noise.std()) == pytest.approx(1, abs=0.1)
    assert abs(float(torch.corrcoef(noise.T)[0, 1])) < 0.2
    assert found.notes(np.array([1.0, 99.0])) == {"simulator_calls": 400.0, "outside": 1.0}


def test_every_failure_stays_in_its_row() -> None:
    problem = Fragile(seconds=0.3, workers=3)
    started = time.monotonic()
    found = problem.simulations(60, seed=0)
    assert time.monotonic() - started < 30
    assert problem.prior().contains(found.theta).all()
    assert (found.theta[:, 0] >= 0.8).all()
    assert len(found.theta) + len(found.failures) == 60 == found.asked
    for reason in FAILURES.values():
        assert any(re.match(reason, text) for text in found.failures.values()), reason
    notes = found.notes(problem.observed())
    assert notes["excluded"] == pytest.approx(len(found.failures) / 60)
    assert notes["first_failure"] == found.failures[min(found.failures)]


def test_failures_are_fatal_where_the_user_says_so_and_nothing_made_is_thrown_away(store: Path) -> None:
    with pytest.raises(SolveError, match=r"fragile: simulation \d+ at \[.*\] failed: "):
        Fragile(seconds=0.3, failures="fatal").simulations(40, seed=0)
    assert rows(store)
    found = Fragile(seconds=0.3).simulations(40, seed=0)
    assert len(found.failures) > 10
    assert sorted(rows(store)) == list(range(40))


def test_what_is_simulated_does_not_depend_on_workers_or_on_what_was_kept(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Line(workers=1).simulations(30, seed=1)
    monkeypatch.setenv("SCIML_SIMULATIONS", str(store / "other"))
    few = Line(workers=4).simulations(10, seed=1)
    more = Line(workers=3).simulations(30, seed=1)
    assert torch.equal(one.x, more.x)
    assert torch.equal(one.x[:10], few.x)


class Counting(Line):
    """A line that writes down each run."""

    def run(self, theta: np.ndarray, seed: int) -> Any:
        with open(os.environ["RUNS"], "a") as file:
            file.write(f"{seed}\n")
        return super().run(theta, seed)


def test_simulations_are_reused_by_seed_and_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs"
    monkeypatch.setenv("RUNS", str(runs))
    problem = Counting()
    train = problem.simulations(20, seed=1)
    again = problem.simulations(12, seed=1)
    assert torch.equal(again.x, train.x[:12])
    assert len(runs.read_text().split()) == 20
    test, other = problem.simulations(20, seed=1, split="test"), problem.simulations(20, seed=2)
    seeds = runs.read_text().split()
    assert len(seeds) == len(set(seeds)) == 60
    for one in (test, other):
        assert not np.isin(one.theta.numpy(), train.theta.numpy()).any()
    Counting(seconds=5.0).simulations(20, seed=1)
    assert len(runs.read_text().split()) == 60


class Elsewhere(Counting):
    """The same with another prior."""

    name = Counting.name

    def prior(self) -> Prior:
        return box((0, 0), (1, 2))


def test_another_prior_or_program_has_simulations_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNS", str(tmp_path / "runs"))
    one, other = Counting().simulations(20, seed=1), Elsewhere().simulations(20, seed=1)
    assert torch.equal(2 * one.theta[:, 1], other.theta[:, 1])
    monkeypatch.setattr(Counting, "program", "another version")
    Counting().simulations(20, seed=1)
    assert len((tmp_path / "runs").read_text().split()) == 60


def test_a_damaged_shard_is_made_again(store: Path) -> None:
    problem = TwoMoons()
    one = problem.simulations(1500, seed=3)
    (shard,) = files(store)
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    assert torch.equal(problem.simulations(1500, seed=3).x, one.x)
    assert len(files(store)) == 1


def test_simulations_are_the_same_with_a_store_or_without(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = [TwoMoons(observation=k).simulations(2500, seed=3) for k in (1, 2)]
    monkeypatch.delenv("SCIML_SIMULATIONS")
    plain = TwoMoons().simulations(2500, seed=3)
    assert all(torch.equal(s.x, plain.x) and torch.equal(s.theta, plain.theta) for s in stored)
    assert len(plain.theta.unique(dim=0)) == 2500


class Slow(Counting):
    """A line that takes its time."""

    def run(self, theta: np.ndarray, seed: int) -> Any:
        time.sleep(0.05)
        return super().run(theta, seed)


class Stuck(Line):
    """A line that says which process it is, and never ends."""

    def run(self, theta: np.ndarray, seed: int) -> Any:
        with open(os.environ["RUNS"], "a") as file:
            file.write(f"{os.getpid()}\n")
        subprocess.run(["sleep", "600"], check=True)


def started(call: str) -> "subprocess.Popen[bytes]":
    here = Path(__file__).parent
    script = f"import sys; sys.path.insert(0, {str(here)!r}); import test_blackbox; test_blackbox.{call}"
    return subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(here.parent)})


def wait_until(condition: Callable[[], bool], seconds: float = 100.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def rows(store: Path) -> list[int]:
    """Return the rows that are kept: a file without its checksum was being written when its process was killed."""
    whole = [path for path in files(store) if path.with_suffix(".sha256").exists()]
    shards = [xarray.open_dataset(path, engine="h5netcdf") for path in whole]
    return [int(row) for shard in shards for row in shard.row]


def test_a_killed_run_goes_on_without_loss_or_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, folder = tmp_path / "runs", tmp_path / "killed"
    monkeypatch.setenv("RUNS", str(runs))
    monkeypatch.setenv("SCIML_SIMULATIONS", str(folder))
    run = started("Slow().simulations(100, seed=5)")
    wait_until(lambda: any(folder.rglob("*.sha256")) or run.poll() is not None)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    count = -1
    while count != (count := len(runs.read_text().split())):
        time.sleep(1)  # what was under way ends
    before, on_disk = len(runs.read_text().split()), len(rows(folder))
    assert 0 < on_disk <= before < 100
    assert before - on_disk < 50  # a second's work of two workers
    resumed = Slow().simulations(100, seed=5)
    assert len(runs.read_text().split()) - before == 100 - on_disk
    assert sorted(rows(folder)) == list(range(100))
    monkeypatch.setenv("SCIML_SIMULATIONS", str(tmp_path / "straight"))
    straight = Slow().simulations(100, seed=5)
    assert torch.equal(resumed.theta, straight.theta)
    assert torch.equal(resumed.x, straight.x)


def test_workers_of_a_killed_run_end_with_all_that_they_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    monkeypatch.setenv("RUNS", str(runs))
    run = started("Stuck().simulations(10, seed=5)")
    wait_until(lambda: runs.exists() and len(runs.read_text().split()) == 2)
    groups = [int(pid) for pid in runs.read_text().split()]
    os.killpg(groups[0], 0)
    run.kill()
    run.wait()

    def gone(group: int) -> bool:
        states = [Path(f"/proc/{pid}/stat") for pid in os.listdir("/proc") if pid.isdigit()]
        fields = [path.read_text().rpartition(")")[2].split() for path in states if path.exists()]
        return not any(int(f[2]) == group and f[0] != "Z" for f in fields)

    wait_until(lambda: all(gone(group) for group in groups), seconds=10)


PROGRAM = """
import json, sys, time
asked = json.load(sys.stdin)
theta, kind = asked["parameters"], sys.argv[1]
if theta["slope"] < 0.5:
    match kind:
        case "hangs":
            time.sleep(600)
        case "rubbish":
            print("Segmentation fault"); sys.exit()
        case "exits":
            print("first", file=sys.stderr); print("no licence", file=sys.stderr); sys.exit(4)
        case "floods":
            while True: print("0" * 10**6)
        case "infinite":
            print('{"y_1": NaN, "y_2": 1}'); sys.exit()
y = [theta["offset"] + theta["slope"] * k + asked["seed"] % 1000 * 1e-6 for k in (1, 2)]
print(json.dumps(dict(zip(["y_1", "y_2"], y)) if kind == "named" else y))
"""


class Program(Executable):
    """The line as a program.

    Args:
        kind: how it fails.
        program: what to run; the interpreter where it is empty.
        seconds: that it may take.
    """

    parameters, data = Line.parameters, Line.data
    prior, observed, reference = Line.prior, Line.observed, Line.reference

    def __init__(self, kind: str = "named", program: str = "", seconds: float = 20.0) -> None:
        super().__init__(seconds=seconds)
        self.kind = kind
        self.program_file = program

    def command(self) -> Sequence[str]:
        return (self.program_file or sys.executable, "-c", PROGRAM, self.kind)


@pytest.mark.parametrize("kind", ["named", "; exit 1 #$(reboot)"])
def test_a_program_reads_and_prints_json_without_a_shell(kind: str) -> None:
    found = Program(kind=kind).simulations(6, seed=1)
    assert not found.failures
    left = found.x - found.theta[:, :1] - found.theta[:, 1:] * torch.tensor([1.0, 2.0])
    assert ((left >= 0) & (left < 1e-3)).all()
    assert len(left[:, 0].unique()) > 1


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("hangs", "it took longer than 1 s"),
        ("rubbish", "ValueError: expected JSON, got 'Segmentation fault"),
        ("exits", "RuntimeError: exit code 4: no licence"),
        ("floods", "RuntimeError: it printed more than"),
        ("infinite", "it returned NaN or infinity"),
    ],
)
def test_a_program_that_fails_is_a_flagged_row(kind: str, reason: str) -> None:
    found = Program(kind=kind, seconds=1.0).simulations(6, seed=1)
    assert 0 < len(found.failures) < 6
    for text in found.failures.values():
        assert text.startswith(reason)


def test_a_missing_program_is_one_line_before_any_work() -> None:
    with pytest.raises(UserError, match="expected the executable '/no/such', found none that may be run"):
        sciml.solve(Program(program="/no/such"), RejectionABC(simulations=10))


class Silent(Line):
    """A line of which nothing comes but NaN."""

    def run(self, theta: np.ndarray, seed: int) -> Any:
        return [np.nan, np.nan]


class Constant(Line):
    """A line that is always the same."""

    def run(self, theta: np.ndarray, seed: int) -> Any:
        return [1.0, 2.0]


class Half(Line):
    """A line with one datum that is always the same, and few values of the other."""

    def run(self, theta: np.ndarray, seed: int) -> Any:
        return [1.0, float(theta[0] > 0.5)]


class Repeating(Line):
    """A line whose prior has few values."""

    def prior(self) -> Prior:
        return Few(box((0, 0), (1, 1)).marginals)

    def run(self, theta: np.ndarray, seed: int) -> Any:
        return theta


class Few(Prior):
    """A prior that repeats itself."""

    def quantile(self, unit: torch.Tensor) -> torch.Tensor:
        return (unit > 0.5).double()


def test_simulations_that_say_nothing_are_refused_or_flagged() -> None:
    with pytest.raises(SolveError, match=r"silent: simulation 0 at .* failed: it returned NaN or infinity"):
        Silent().simulations(20, seed=0)
    with pytest.raises(SolveError, match="all 20 simulations returned"):
        Constant().simulations(20, seed=0)
    with pytest.raises(UserError, match="more simulations than line has parameters, 2; got 2"):
        Line().simulations(2, seed=0)
    assert Half().simulations(20, seed=0).notes(np.array([1.0, 0.0]))["constant_data"] == 1
    assert Repeating().simulations(20, seed=0).notes(np.array([0.0, 0.0]))["duplicates"] >= 16


class Wide(Line):
    """A line with a prior of three parameters and an observation of three data."""

    def prior(self) -> Prior:
        return box((0, 0, 0), (1, 1, 1))

    def observed(self) -> np.ndarray:
        return np.array([0.0, 1.0, np.nan])


def test_priors_and_observations_of_another_size_are_refused_before_any_work() -> None:
    with pytest.raises(UserError) as raised:
        sciml.solve(Wide(), RejectionABC())
    for part in (
        "prior to have a number for each parameter, 2; got 3",
        "for each datum, 2; got 3",
        "finite observation",
    ):
        assert part in str(raised.value)
    for corners in (((0,), (1, 1)), ((0.0,), (np.inf,)), ((1.0,), (0.0,))):
        with pytest.raises(UserError, match="corners of a box"):
            box(*corners)


class Typed(TwoMoons):
    """Two moons in complex numbers, or in another shape from the second block on."""

    def __init__(self, changes: bool = False) -> None:
        super().__init__()
        self.changes = changes
        self.calls = 0

    def simulate(self, theta: torch.Tensor, draw: Any) -> torch.Tensor:
        x = super().simulate(theta, draw)
        self.calls += 1
        return (x[:, :1] if self.calls > 1 else x) if self.changes else x * 1j


def test_a_simulator_that_changes_its_data_is_refused() -> None:
    with pytest.raises(SolveError, match=r"should return real numbers, got torch.complex128"):
        Typed().simulations(10, seed=0)
    with pytest.raises(SolveError, match=r"data of shape \(1000, 2\), got \(1000, 1\)"):
        Typed(changes=True).simulations(3000, seed=0)


def test_a_black_box_says_that_it_has_no_draws() -> None:
    problem = Line()
    assert not problem.tractable
    theta = problem.prior().sample(3, torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match="line is a black box"):
        problem.mine(theta, torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match="line is a black box"):
        joint_ratio(problem.simulate, [torch.zeros(3)], theta, theta)
    with pytest.raises(UserError, match="no known likelihood"):
        problem.log_likelihood(theta, theta)
    one, other = (problem.simulate(t, CommonDraws(3, seed=1)) for t in (theta, theta + 1))
    torch.testing.assert_close(other - one, torch.tensor([2.0, 3.0]).double().expand(3, 2))
    x = Silent().simulate(theta, RandomDraws(3, torch.Generator().manual_seed(0)))
    assert x.isnan().all()


def test_a_solver_reports_what_it_left_out() -> None:
    solution = sciml.solve(Fragile(seconds=0.3), RejectionABC(simulations=60, kept=10), seed=0)
    assert 0.3 < float(solution.notes["excluded"]) < 1
    assert "first_failure" in solution.notes
