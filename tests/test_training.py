"""Training: schedules, stops, breakdowns, signals, devices and processes, on a toy problem and on heat."""

import csv
import math
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from problems.pde.heat import Heat
from sciml.errors import Interrupted, SolveError, UserError
from sciml.neural import NeuralSolver, Phase
from sciml.parameters import Count
from sciml.problem import Problem, Table, Variable
from sciml.progress import Progress
from sciml.solution import Solution
from sciml.solver import Context
from sciml.training.checkpoint import last_checkpoint, read_checkpoint
from sciml.training.settings import Training
from sciml.views.residual import Residual


class Wave(Problem):
    """y = sin 3x on [-1, 1]."""

    primary = "rms"

    @property
    def inputs(self) -> tuple[Variable, ...]:
        return (Variable("x"),)

    @property
    def outputs(self) -> tuple[Variable, ...]:
        return (Variable("y"),)

    def score(self, solution: Solution, seed: int = 0) -> dict[str, float]:
        x = np.linspace(-1, 1, 50)[:, None]
        return {"rms": float(np.sqrt(np.mean((solution(x) - np.sin(3 * x)) ** 2)))}

    def monitor(self, solution: Solution) -> float | None:
        return self.score(solution)["rms"]

    def trivial(self) -> Solution:
        return Solution(self, np.zeros_like)

    def table(self, solution: Solution) -> Table:
        return Table({}, {})

    def figures(self, solution: Solution) -> Iterator[tuple[str, Any]]:
        yield from ()


class Unwatched(Wave):
    """The same, with no error to follow."""

    def monitor(self, solution: Solution) -> float | None:
        return None


class Regression(NeuralSolver[Wave]):
    """Fits a small network to random points; ``fault`` spoils a loss or a gradient at one evaluation."""

    needs = Wave

    def __init__(
        self,
        adam: Count = 60,
        lbfgs: tuple[int, ...] = (20,),
        rows: Count = 32,
        fault: Literal["none", "loss", "gradient"] = "none",
        fault_at: Count = 35,
    ) -> None:
        super().__init__()
        self.phases = (Phase("adam", adam, 1e-2, decay=0.1), *(Phase("lbfgs", steps) for steps in lbfgs))
        self.rows, self.fault, self.fault_at, self.calls = rows, fault, fault_at, 0

    def build(self, problem: Wave) -> None:
        into, out = (torch.nn.Linear(*shape, dtype=self.real) for shape in ((1, 12), (12, 1)))
        self.network = torch.nn.Sequential(into, torch.nn.Tanh(), out)

    def schedule(self) -> tuple[Phase, ...]:
        return self.phases

    def sample(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {"x": 2 * torch.rand(self.rows, 1, generator=generator, dtype=self.real) - 1}

    def losses(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        self.calls += 1
        x = batch["x"]
        error = self.network(x) - torch.sin(3 * x)
        losses = {"fit": error.square().mean(), "fourth": error.pow(4).mean()}
        if self.calls >= self.fault_at and self.fault == "loss":
            losses["fourth"] = losses["fourth"] * math.nan
        if self.calls >= self.fault_at and self.fault == "gradient":
            losses["fourth"] = losses["fourth"] + (0 * error.mean()).sqrt()
        return losses

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: self.network(torch.as_tensor(x, dtype=self.real)).detach().double().numpy()


class Rounded(Regression):
    """A regression that may be trained in bfloat16."""

    takes_bf16 = True


class SmallPINN(NeuralSolver[Residual]):
    """A residual network with nested autograd, small enough for a test."""

    needs = Residual
    precision_default = "64"

    def build(self, problem: Residual) -> None:
        into, out = (torch.nn.Linear(*shape, dtype=self.real) for shape in ((2, 16), (16, 1)))
        self.network = torch.nn.Sequential(into, torch.nn.Tanh(), out)
        self.terms = problem.terms

    def schedule(self) -> tuple[Phase, ...]:
        return Phase("adam", 100, 1e-2), Phase("lbfgs", 150)

    def sample(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        points = {term.name: term.part.sample(64, generator, "uniform", self.real) for term in self.terms}
        return {name: rows.coordinates for name, rows in points.items()}

    def losses(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        x = batch["equation"].requires_grad_()
        u = self.network(x)
        first = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        second = torch.autograd.grad(first[:, 0].sum(), x, create_graph=True)[0]
        start, ends = batch["initial"], batch["boundary"]
        return {
            "equation": (first[:, 1] - 0.1 * second[:, 0]).square().mean(),
            "initial": (self.network(start)[:, 0] - torch.sin(torch.pi * start[:, 0])).square().mean(),
            "boundary": self.network(ends).square().mean(),
        }

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: self.network(torch.as_tensor(x, dtype=self.real)).detach().double().numpy()


@dataclass
class Told(Progress):
    """Keeps the reports; sends this process a signal at one of them."""

    number: int | None = None
    at: int = 2
    reports: list[tuple[float, Mapping[str, float]]] = field(default_factory=list)

    def report(self, done: float, values: Mapping[str, float]) -> None:
        self.reports.append((done, values))
        if self.number is not None and len(self.reports) == self.at:
            os.kill(os.getpid(), self.number)


def train(
    solver: NeuralSolver[Any] | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
    problem: Any = None,
    seed: int = 1,
    resume: bool = False,
    **training: Any,
) -> Solution:
    settings = Training(**{"accelerator": "cpu", "precision": "64", "check_every": 10, **training})
    context = Context(seed, settings, folder, resume, progress or Progress())
    return (solver or Regression()).solve(problem or Wave(), context)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same_state(a: Solution, b: Solution) -> bool:
    return all(np.array_equal(a.state[name], b.state[name]) for name in a.state)


def test_a_schedule_runs_to_its_end_and_says_so(tmp_path: Path) -> None:
    told = Told()
    solution = train(folder=tmp_path, progress=told)
    notes = solution.notes
    assert (notes["steps"], notes["stop_reason"], notes["parameters"]) == (80, "schedule", 37)
    assert float(notes["closures"]) >= 80
    assert Wave().score(solution)["rms"] < Wave().score(Wave().trivial())["rms"] / 5
    history = rows(tmp_path)
    assert list(history[0]) == [
        "step",
        "closures",
        "seconds",
        "phase",
        "loss",
        "loss_fit",
        "loss_fourth",
        "error",
    ]
    assert [int(row["step"]) for row in history] == [1, *range(10, 81, 10)]
    assert [row["phase"] for row in history] == ["adam"] * 7 + ["lbfgs"] * 2
    for row in history:
        assert float(row["loss"]) == pytest.approx(float(row["loss_fit"]) + float(row["loss_fourth"]))
    assert float(history[-1]["error"]) == Wave().score(solution)["rms"]
    seconds = [float(row["seconds"]) for row in history]
    assert seconds == sorted(seconds)
    assert [done for done, _ in told.reports][-1] == 1
    assert told.reports[-1][1] == {k: float(history[-1][k]) for k in ("loss", "loss_fit", "loss_fourth", "error")}


def test_heat_is_solved() -> None:
    solution = train(SmallPINN(), problem=Heat(), precision=None)
    assert all(array.dtype == np.float64 for array in solution.state.values())
    assert Heat().score(solution)["relative_l2"] < 0.02


def test_the_learning_rate_falls_along_a_cosine() -> None:
    phase = Phase("adam", 100, 0.2, decay=0.01)
    assert phase.rate(0) == pytest.approx(0.2)
    assert phase.rate(50) == pytest.approx(0.2 * 1.01 / 2)
    assert phase.rate(100) == pytest.approx(0.002)
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        Phase("adam", 100, decay=100)


def test_the_seed_alone_decides() -> None:
    before = torch.random.get_rng_state()
    first = train()
    torch.rand(3)
    again, other = train(), train(seed=2)
    assert same_state(first, again)
    assert not same_state(first, other)
    torch.random.set_rng_state(before)
    train()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"max_steps": 37}, "max_steps"),
        ({"max_steps": 67}, "max_steps"),
        ({"max_closures": 71}, "max_closures"),
        ({"target_loss": 0.3}, "target_loss"),
        ({"target_error": 0.4}, "target_error"),
    ],
)
def test_stops_are_exact(tmp_path: Path, limit: dict[str, Any], reason: str) -> None:
    solution = train(folder=tmp_path, **limit)
    notes, last = solution.notes, rows(tmp_path)[-1]
    assert notes["stop_reason"] == reason
    assert int(last["step"]) == notes["steps"]
    assert int(last["step"]) < 80
    kept = read_checkpoint(last_checkpoint(tmp_path))
    assert kept["notes"] == notes
    if reason == "max_steps":
        assert notes["steps"] == limit["max_steps"]
    if reason == "max_closures":
        assert 71 <= float(notes["closures"]) < 71 + 26
    if reason == "target_loss":
        assert float(last["loss"]) <= 0.3
        assert notes["steps"] == 1 + sum(v > 0.3 for v in losses_by_step(tmp_path / "all"))
    if reason == "target_error":
        assert Wave().score(solution)["rms"] <= 0.4


def test_seconds_are_those_of_training() -> None:
    solution = train(Regression(adam=100_000), max_seconds=0.3)
    assert solution.notes["stop_reason"] == "max_seconds"
    assert 0.3 <= float(solution.notes["seconds"]) < 1


def losses_by_step(folder: Path) -> list[float]:
    """The losses of a training up to and without the first that is at most 0.3."""
    train(folder=folder, check_every=1)
    losses = [float(row["loss"]) for row in rows(folder)]
    return losses[: next(k for k, loss in enumerate(losses) if loss <= 0.3)]


def test_patience_counts_checks_without_a_better_loss(tmp_path: Path) -> None:
    solution = train(Regression(adam=5000, lbfgs=()), tmp_path, patience=3)
    losses = [float(row["loss"]) for row in rows(tmp_path)]
    assert solution.notes["stop_reason"] == "patience"
    assert min(losses[-3:]) >= min(losses[:-3])
    assert losses[-4] == min(losses)


def test_an_error_that_nobody_knows_is_no_target() -> None:
    with pytest.raises(UserError, match="target_loss"):
        train(problem=Unwatched(), target_error=0.1)


def test_each_phase_of_lbfgs_lowers_the_loss_on_its_own_batch(tmp_path: Path) -> None:
    solution = train(Regression(lbfgs=(10, 10, 10)), tmp_path, check_every=1)
    losses = [float(row["loss"]) for row in rows(tmp_path)][60:]
    assert len(losses) == 30
    assert solution.notes["stop_reason"] == "schedule"
    for phase in (losses[:10], losses[10:20], losses[20:]):
        assert all(after < before for before, after in pairwise(phase))
    assert losses[10] != pytest.approx(losses[9], rel=1e-6)


def test_lbfgs_goes_on_where_losses_are_small() -> None:
    told = Told()
    train(Regression(adam=300, lbfgs=(1500,), rows=16), progress=told, check_every=100)
    assert told.reports[-1][1]["loss"] < 1e-9  # torch's own threshold for curvature ends at 1e-8 to 1e-7


@pytest.mark.parametrize(
    ("fault", "at", "where", "message"),
    [
        ("loss", 35, r"step 35 \(adam\)", "loss term fourth is nan"),
        ("gradient", 35, r"step 35 \(adam\)", "gradient of the loss term fourth"),
        ("loss", 66, r"\(lbfgs\)", "loss term fourth is nan"),
    ],
)
def test_a_breakdown_names_the_term_and_keeps_the_checkpoint(
    tmp_path: Path, fault: Any, at: int, where: str, message: str
) -> None:
    with pytest.raises(SolveError, match=f"{where}: the {message}"):
        train(Regression(fault=fault, fault_at=at), tmp_path, checkpoint_every=10)
    kept = read_checkpoint(last_checkpoint(tmp_path))
    assert kept["notes"]["steps"] == at // 10 * 10
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_writes_the_checkpoint_and_the_training_can_go_on(tmp_path: Path, number: int) -> None:
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    whole = train(folder=tmp_path / "whole")
    with pytest.raises(Interrupted, match="interrupted at step 10") as caught:
        train(folder=tmp_path / "cut", progress=Told(number))
    assert caught.value.signal == number
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert same_state(train(folder=tmp_path / "cut", resume=True), whole)
    columns = [{k: v for k, v in row.items() if k != "seconds"} for row in rows(tmp_path / "cut")]
    assert columns == [{k: v for k, v in row.items() if k != "seconds"} for row in rows(tmp_path / "whole")]


def test_bf16_is_refused_where_it_makes_no_sense() -> None:
    with pytest.raises(UserError, match="lbfgs need exact losses"):
        train(Rounded(), precision="bf16")
    with pytest.raises(UserError, match="regression, got bf16"):
        train(Regression(lbfgs=()), precision="bf16")


def test_bf16_rounds_the_losses_and_not_the_parameters() -> None:
    rounded = train(Rounded(lbfgs=()), precision="bf16")
    exact = train(Rounded(lbfgs=()), precision="32")
    assert all(array.dtype == np.float32 for array in rounded.state.values())
    assert not same_state(rounded, exact)
    assert Wave().score(rounded)["rms"] == pytest.approx(Wave().score(exact)["rms"], rel=0.2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="found 0"):
        train(accelerator="gpu")


def test_two_processes_follow_the_curve_of_one(tmp_path: Path) -> None:
    one = train(folder=tmp_path / "one")
    told = Told()
    two = train(folder=tmp_path / "two", progress=told, devices=2)
    assert two.notes["steps"] == one.notes["steps"]
    assert two.notes["closures"] == one.notes["closures"]
    curves = [[float(row["loss"]) for row in rows(tmp_path / name)] for name in ("one", "two")]
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-8)
    assert len(told.reports) == len(curves[0])


def test_processes_share_rows_evenly_or_not_at_all() -> None:
    with pytest.raises(UserError, match="got 33 of 'x'"):
        train(Regression(rows=33), devices=2)


def test_a_breakdown_in_a_process_is_told_by_its_parent(tmp_path: Path) -> None:
    with pytest.raises(SolveError, match=r"step 35 .*fourth"):
        train(Regression(fault="gradient"), tmp_path, devices=2)


def test_a_signal_reaches_the_processes(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(Regression(adam=20000), folder=tmp_path, progress=Told(signal.SIGTERM), devices=2)
    assert 10 <= read_checkpoint(last_checkpoint(tmp_path))["notes"]["steps"] < 20000
