"""What the processes of all peers share: points, the clock, stops and reports."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sciml.child import Report
from sciml.pde.conditions import Initial
from sciml.pde.domains import Points
from sciml.solution import Solution
from sciml.views.residual import Residual, Term


def real(order: Mapping[str, Any]) -> torch.dtype:
    """Return the type of a real number that is asked for."""
    return torch.float64 if order["precision"] == "64" else torch.float32


def draw(problem: Residual, order: Mapping[str, Any]) -> list[tuple[Term, Points]]:
    """Return the terms with points of a scrambled Sobol sequence, the same for terms on the same part."""
    generator = torch.Generator("cpu").manual_seed(order["seed"])
    drawn: dict[int, Points] = {}
    for term in problem.terms:
        if id(term.part) not in drawn:
            inside = "points" if term.condition is None else "boundary_points"
            count = order["initial_points" if isinstance(term.condition, Initial) else inside]
            drawn[id(term.part)] = term.part.sample(count, generator, "sobol", real(order))
    return [(term, drawn[id(term.part)]) for term in problem.terms]


def save(layers: Sequence[torch.nn.Linear], order: Mapping[str, Any]) -> int:
    """Write the weights in double precision; return their number."""
    arrays = {}
    for k, layer in enumerate(layers):
        arrays |= {
            f"weight_{k}": layer.weight.detach().cpu().double().numpy(),
            f"bias_{k}": layer.bias.detach().cpu().double().numpy(),
        }
    np.savez(order["weights"], **arrays)
    return sum(a.size for a in arrays.values())


class Watch:
    """Counts, stops, and reports of a training; its clock leaves the reports out.

    Args:
        problem: what is solved.
        order: what was asked for.
        report: where reports go.
        losses: returns the terms of the loss, in the order of the problem's.
        predict: the network as a function of arrays.
    """

    def __init__(
        self,
        problem: Residual,
        order: Mapping[str, Any],
        report: Report,
        losses: Callable[[], Sequence[float]],
        predict: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self.steps = self.closures = self.stale = 0
        self.reason = self.phase = ""
        self._problem, self._order, self._report = problem, order, report
        self._losses, self._predict = losses, predict
        self._total = order["adam_steps"] + order["lbfgs_steps"]
        self._seconds, self._since = 0.0, math.nan
        self._reported = 0
        self._loss = self._error = self._best = math.inf

    def notes(self, version: str) -> dict[str, Any]:
        """Return what the training says of itself."""
        return {
            "steps": self.steps,
            "closures": self.closures,
            "seconds": self._seconds,
            "stop_reason": self.reason,
            "precision": self._order["precision"],
            "version": version,
        }

    @property
    def left(self) -> int:
        """Steps that this phase has left."""
        return self._wanted - (self.steps - self._before[0])

    def begin(self, phase: str, steps: int) -> None:
        """Begin a phase of so many steps."""
        self.phase, self._wanted, self._before = phase, steps, (self.steps, self.closures)

    def start(self) -> None:
        """Start the clock; end the process where the loss is not finite."""
        self._named()
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Stop the clock."""
        self._seconds, self._since = self._now(), math.nan

    def count(self, steps: int, closures: int) -> None:
        """Take the steps of this phase, and its evaluations of the loss and its gradient."""
        self.steps, self.closures = self._before[0] + steps, self._before[1] + closures

    def stops(self) -> bool:
        """Report where it is time to; return whether to stop."""
        every = self._order["check_every"]
        due = self.steps == 1 or self.steps // every > self._reported // every
        reason = self._stop()
        if due or reason:
            self._check()
            reason = reason or self._stop()
        self.reason = reason
        return bool(reason)

    def end(self) -> None:
        """End a phase; say why where the training ends with it."""
        self.pause()
        if self._reported < self.steps:
            self._check()
        if self.reason:
            return
        if self.phase == "lbfgs" and self.left > 0:
            self.reason = "converged"
        elif self.steps >= self._total:
            self.reason = "max_steps" if self._order["shortened"] else "schedule"

    def _stop(self) -> str:
        order = self._order
        reasons = {
            "target_loss": order["target_loss"] is not None and self._loss <= order["target_loss"],
            "target_error": order["target_error"] is not None and self._error <= order["target_error"],
            "patience": order["patience"] is not None and self.stale >= order["patience"],
            "max_seconds": order["max_seconds"] is not None and self._now() >= order["max_seconds"],
            "max_closures": order["max_closures"] is not None and self.closures >= order["max_closures"],
        }
        return next((name for name, met in reasons.items() if met), "")

    def _now(self) -> float:
        return self._seconds + (0.0 if math.isnan(self._since) else time.perf_counter() - self._since)

    def _check(self) -> None:
        """Report the loss terms and the error; the time that this takes is not training."""
        running = not math.isnan(self._since)
        self.pause()
        losses = self._named()
        error = self._problem.monitor(Solution(self._problem, self._predict))
        self._loss, self._error = sum(losses.values()), math.inf if error is None else error
        self.stale = 0 if self._loss < self._best else self.stale + 1
        self._best = min(self._best, self._loss)
        self._reported = self.steps
        row = {"step": self.steps, "closures": self.closures, "seconds": self._seconds, "phase": self.phase}
        row |= {"loss": self._loss} | {f"loss_{name}": value for name, value in losses.items()}
        row |= {"error": "" if error is None else error}
        self._report({"done": self.steps / self._total, "row": row})
        if running:
            self._since = time.perf_counter()

    def _named(self) -> dict[str, float]:
        """Return the loss terms by name; end the process where one is not finite."""
        losses = dict(zip((t.name for t in self._problem.terms), self._losses(), strict=True))
        bad = ", ".join(f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value))
        if bad:
            raise SystemExit(f"step {self.steps} ({self.phase}): the loss term {bad}")
        return losses
