"""Random features on cells of an interval, marched in time slabs: for sharp fronts and long times."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sciml.clock import Clock
from sciml.errors import SolveError
from sciml.views.residual import Residual

from ._cells_basis import Basis, draw
from ._cells_march import Marcher, Report
from ._cells_rows import Statement
from ._cells_slab import Slab
from ._features import Features
from ._layout import Layout

Function = Callable[[np.ndarray], np.ndarray]

LOOSE = 1e-6
"""The tolerance that is met first where time is limited, so that there is an answer when it is over."""
MARCHES = 3
"""Marches before a tolerance counts as missed."""
FINER = 0.05
"""The tolerance of the second march relative to the first's, and the share of its error that is then left."""
FINEST = 1e-11
"""The smallest tolerance of a march; rounding is not far below."""
SAMPLE = 20000
"""Points at which two marches are compared."""
BLOCK = 4096


@dataclass(frozen=True)
class Outcome:
    """What a march found.

    Args:
        function: from points (n, axes) to fields (n, fields).
        state: arrays from which ``remake`` makes the function again.
        notes: what the solver says of itself.
    """

    function: Function
    state: dict[str, np.ndarray]
    notes: dict[str, float | str]


def refusal(problem: Residual) -> str | None:
    """Return why a problem cannot be marched on cells, or None."""
    try:
        layout = Layout(problem)
    except ValueError as reason:
        return str(reason)
    if not layout.marching:
        return "it has no time axis with initial conditions for the equations' order"
    if len(layout.axes) != 1:
        return f"cells divide one space axis, the problem has {len(layout.axes)}"
    return layout.imbalance()


def march(problem: Residual, tolerance: float, seed: int, clock: Clock) -> Outcome:
    """Solve a problem of one space axis and time as ``agreed`` does; in limited time, to a loose tolerance before.

    Raises:
        SolveError: not even the loose tolerance's first march comes to its end.
    """
    if tolerance >= LOOSE or not math.isfinite(clock.remaining):
        return agreed(problem, tolerance, seed, clock)
    loose = agreed(problem, LOOSE, seed, clock)
    try:
        return agreed(problem, tolerance, seed, clock)
    except SolveError:
        reason = "max_seconds" if clock.remaining <= 0 else "breakdown"
        return Outcome(loose.function, loose.state, loose.notes | {"tolerance_met": "no", "stop_reason": reason})


def agreed(problem: Residual, tolerance: float, seed: int, clock: Clock) -> Outcome:
    """Solve a problem of one space axis and time by least squares of random features, cell by cell.

    In each cell (interval x slab) every field is ``Σ_m c_m sin(w_m . z + b_m)`` with the same random w and b in
    the cell's own coordinates z; the equations are collocated, fields and their derivatives below the order
    of the equations match at interfaces, and Gauss-Newton solves each slab. Where the held-out residual of a slab,
    scaled to an error of the fields, exceeds its share of the tolerance, cells are halved or the slab
    is shortened, as the Legendre coefficients across and along them tell; cells that are finer than needed merge.

    A residual does not tell by how much the equations amplify it. So the march is repeated with other features
    and a smaller tolerance of the residual until two agree; the finer is returned, or the last that came to its end.

    Args:
        problem: one that ``refusal`` accepts.
        tolerance: of the held-out residual, summed over slabs and relative to each field's greatest value, and
            of the relative root mean square difference of two marches.
        seed: of the features and of the held-out points.
        clock: told the share of a march that is done, and values by name.

    Raises:
        SolveError: in the first march no time is left, or Gauss-Newton does not converge even in the shortest slab.
    """
    statement = Statement(Layout(problem))
    local, error, marches = tolerance / 2, math.inf, 1
    now, reason = _once(problem, statement, local, [seed, 0], clock.report), "stagnation"
    while marches < MARCHES and error > tolerance and local > FINEST:
        before = now
        expected = error * FINER if marches > 1 else tolerance
        local = max(FINEST, local * float(np.clip(0.5 * tolerance / expected, 0.01, 0.2 if marches > 1 else FINER)))
        try:
            now = _once(problem, statement, local, [seed, marches], clock.report)
        except SolveError:
            reason = "max_seconds" if clock.remaining <= 0 else "breakdown"
            break
        error, marches = difference(problem, before.function, now.function, seed, SAMPLE), marches + 1
    return concluded(now, tolerance, error, marches, reason)


def concluded(last: Outcome, tolerance: float, error: float, marches: int, reason: str) -> Outcome:
    """Return the last of several marches with notes on what they show.

    Args:
        last: the march.
        tolerance: of its held-out residual and of the error.
        error: as two marches estimate it; infinite after one.
        marches: how many there were.
        reason: why there are no more, where the tolerance does not hold.
    """
    met = error <= tolerance and float(last.notes["held_out_residual"]) <= tolerance
    notes = last.notes | {
        "marches": marches,
        "tolerance_met": "yes" if met else "no",
        "stop_reason": "tolerance" if met else reason,
    }
    if math.isfinite(error):
        notes["estimated_error"] = error
    return Outcome(last.function, last.state, notes)


def _once(problem: Residual, statement: Statement, tolerance: float, seed: list[int], report: Report) -> Outcome:
    basis = Basis(draw(_features(tolerance), seed), seed)
    marcher = Marcher(statement, basis, tolerance)
    slabs = marcher.run(report)
    state = _state(slabs)
    notes: dict[str, float | str] = {
        "method": "random features on cells, marched in slabs",
        "slabs": len(slabs),
        "cells": max(s.cells for s in slabs),
        "features_per_cell": len(basis.features),
        "newton_iterations": marcher.counts["iterations"],
        "factorisations": marcher.counts["factorisations"],
        "rejected_slabs": marcher.counts["rejected"],
        "held_out_residual": float(np.sum(marcher.residuals)),
    }
    return Outcome(remake(problem, state), state, notes)


def difference(problem: Residual, coarse: Function, fine: Function, seed: int, sample: int) -> float:
    """Return the root mean square difference at random points of a box, relative to each field, over the fields."""
    bounds = problem.region.bounds
    points = np.random.default_rng([seed, MARCHES]).uniform(*bounds.T, size=(sample, len(bounds)))
    values = fine(points)
    size = np.linalg.norm(values, axis=0)
    gap = np.linalg.norm(coarse(points) - values, axis=0) / np.maximum(size, 1e-3 * max(size.max(), 1e-300))
    return float(np.sqrt(np.mean(np.square(gap))))


def remake(problem: Residual, state: Mapping[str, np.ndarray]) -> Function:
    """Return the function of a march again from its state."""
    features = Features(state["weights"], state["phases"], np.zeros(2))
    axes = problem.region.axes
    across, along = (1 - axes.index("t"), axes.index("t"))
    times, firsts, coefficients = state["times"], state["firsts"], state["coefficients"]
    low, high = state["low"], state["high"]

    def block(points: np.ndarray) -> np.ndarray:
        x, t = points[:, across], points[:, along]
        slab = np.clip(np.searchsorted(times, t, side="right") - 1, 0, len(times) - 2)
        cell = np.empty(len(x), dtype=int)
        for s in np.unique(slab):
            chosen, (first, last) = slab == s, firsts[s : s + 2]
            cell[chosen] = first + np.clip(
                np.searchsorted(low[first:last], x[chosen], side="right") - 1, 0, last - first - 1
            )
        local = [
            2 * (x - low[cell]) / (high - low)[cell] - 1,
            2 * (t - times[slab]) / np.diff(times)[slab] - 1,
        ]
        return np.einsum("nm,nfm->nf", features.matrix(np.stack(local, axis=1), (0, 0)), coefficients[cell])

    def function(points: np.ndarray) -> np.ndarray:
        return np.concatenate([block(points[k : k + BLOCK]) for k in range(0, max(len(points), 1), BLOCK)])

    return function


def _features(tolerance: float) -> int:
    """Return how many features reach a tolerance cheaply: more accuracy is worth more per cell."""
    return int(np.clip(40 - 24 * math.log10(tolerance), 60, 280))


def _state(slabs: list[Slab]) -> dict[str, np.ndarray]:
    basis = slabs[0].basis
    return {
        "weights": basis.features.weights,
        "phases": basis.features.phases,
        "times": np.array([*(s.start for s in slabs), slabs[-1].start + slabs[-1].length]),
        "firsts": np.cumsum([0, *(s.cells for s in slabs)]),
        "low": np.concatenate([s.breaks[:-1] for s in slabs]),
        "high": np.concatenate([s.breaks[1:] for s in slabs]),
        "coefficients": np.concatenate([s.values @ basis.transform.T for s in slabs]),
    }
