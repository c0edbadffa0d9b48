"""Random features on cells of an interval, marched in time slabs: for sharp fronts and long times."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sciml.errors import SolveError
from sciml.views.residual import Residual

from ._cells_basis import Basis, draw
from ._cells_slab import Slab, Statement, solve
from ._features import Features
from ._layout import Layout

Report = Callable[[float, Mapping[str, float]], None]
Function = Callable[[np.ndarray], np.ndarray]

FIRST = 20
"""The share of time that the first slab tries is one over this."""
LEAST_SHARE = 0.01
"""A slab may use this share of the tolerance, however short it is."""
SHORTEST = 1e-12
"""The shortest slab and the narrowest cell, relative to the whole."""
MOST_CELLS = 300
PATIENCE = 5
"""Refinements in a row that may leave a slab's residual nearly as large as it was."""
RESOLVED = 0.3
"""Coefficients below this share of the residual belong to a resolved function."""
ITERATIONS = 20
ORDER = 10
"""The power of a slab's length with which its residual is taken to fall."""
TAIL = 0.7
"""Legendre coefficients from this share of the degrees on tell whether cells or the slab are too long."""
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


def march(problem: Residual, tolerance: float, seed: int, report: Report) -> Outcome:
    """Solve a problem of one space axis and time by least squares of random features, cell by cell.

    In each cell (interval x slab) every field is ``Σ_m c_m sin(w_m . z + b_m)`` with the same random w and b in
    the cell's own coordinates z; the equations are collocated, fields and their derivatives below the order
    of the equations match at interfaces, and Gauss-Newton solves each slab. Where the held-out residual of a slab,
    scaled to an error of the fields, exceeds its share of the tolerance, cells are halved or the slab
    is shortened, as the Legendre coefficients across and along them tell; cells that are finer than needed merge.

    Args:
        problem: one that ``refusal`` accepts.
        tolerance: of the held-out residual, summed over slabs, relative to each field's greatest value.
        seed: of the features and of the held-out points.
        report: told the share of time that is done, and values by name.

    Raises:
        SolveError: Gauss-Newton does not converge even in the shortest slab.
    """
    basis = Basis(draw(_features(tolerance), seed), seed)
    marcher = Marcher(Statement(Layout(problem)), basis, tolerance)
    slabs = marcher.run(report)
    state = _state(slabs)
    held_out = float(np.sum(marcher.residuals))
    notes: dict[str, float | str] = {
        "method": "random features on cells, marched in slabs",
        "slabs": len(slabs),
        "cells": max(s.cells for s in slabs),
        "features_per_cell": len(basis.features),
        "newton_iterations": marcher.counts["iterations"],
        "factorisations": marcher.counts["factorisations"],
        "rejected_slabs": marcher.counts["rejected"],
        "held_out_residual": held_out,
        "tolerance_met": "yes" if held_out <= tolerance else "no",
    }
    return Outcome(remake(problem, state), state, notes)


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
    return int(np.clip(30 - 24 * math.log10(tolerance), 60, 260))


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


class Marcher:
    """Chooses slabs and cells.

    Args:
        statement: of the problem.
        basis: of the reference cell.
        tolerance: of the held-out residual, summed over slabs.
    """

    def __init__(self, statement: Statement, basis: Basis, tolerance: float) -> None:
        self.statement, self.basis, self.tolerance = statement, basis, tolerance
        box = statement.layout.box
        self.start, self.end = box.bounds[statement.along]
        self.low, self.high = box.bounds[statement.across]
        self.residuals: list[float] = []
        self.counts = dict.fromkeys(("iterations", "factorisations", "rejected"), 0)

    def run(self, report: Report) -> list[Slab]:
        """March to the end.

        Raises:
            SolveError: Gauss-Newton does not converge even in the shortest slab.
        """
        whole, slabs = self.end - self.start, []
        fields = len(self.statement.fields)
        breaks = np.linspace(self.low, self.high, 5)
        zero = np.zeros((4, fields, self.basis.rank))
        slab = Slab(self.statement, self.basis, breaks, self.start, whole / FIRST, zero, None, np.zeros(fields))
        while True:
            slab = self._settled(slab)
            slabs.append(slab)
            done = slab.start + slab.length
            report((done - self.start) / whole, {"time": done, "cells": slab.cells, "held_out": sum(self.residuals)})
            if done >= self.end - SHORTEST * whole:
                return slabs
            left = self.end - done
            length = slab.length * self._growth(slab)
            length = left if length > 0.9 * left else min(length, left / 2 if length > 0.6 * left else length)
            slab = slab.guessed(self._merged(slab), done, length, slab)

    def _share(self, slab: Slab) -> float:
        return self.tolerance * max(slab.length / (self.end - self.start), LEAST_SHARE) / 2

    def _contributions(self, slab: Slab, sizes: np.ndarray) -> np.ndarray:
        """Return each cell's part of the root mean square over the interval."""
        return sizes * np.sqrt(slab.widths / (self.high - self.low))

    def _settled(self, slab: Slab) -> Slab:
        """Return a slab whose residual is within its share, or as small as refinement makes it."""
        best, least, patience = slab, math.inf, PATIENCE
        while True:
            found = solve(slab, 0.01 * self._share(slab), ITERATIONS)
            if found is None:
                self.counts["rejected"] += 1
                if slab.length < SHORTEST * (self.end - self.start):
                    raise SolveError(f"Newton did not converge at t = {slab.start:.6g} with the shortest slab")
                slab = self._retried(slab, slab.length / 3)
                continue
            self.counts["iterations"] += found[0]
            self.counts["factorisations"] += found[1]
            sizes = slab.held_out()
            total = float(np.linalg.norm(self._contributions(slab, sizes)))
            improved = total < 0.7 * least
            patience = PATIENCE if improved else patience - 1
            if improved or total <= self._share(slab):
                best, least = slab, total
            finer = self._refined(slab, sizes, improved) if total > self._share(slab) and patience else None
            if finer is None:
                self.residuals.append(least)
                return best
            self.counts["rejected"] += 1
            slab = finer

    def _refined(self, slab: Slab, sizes: np.ndarray, improved: bool) -> Slab | None:
        """Return a guess with the cells or the slab shortened that spoil its residual; None where that is rounding.

        Coefficients that fell below the residual show that a cell is resolved and its residual comes from rounding.
        """
        across, along = slab.tails(TAIL)
        each, share = self._contributions(slab, sizes), self._share(slab)
        bad = (each > share / math.sqrt(slab.cells)) & (np.maximum(across, along) > RESOLVED * sizes)
        late = bad & (along > across)
        split = bad & ~late & (slab.widths > SHORTEST * (self.high - self.low))
        if slab.cells + split.sum() > MOST_CELLS:
            split[:] = False
        excess, length = float(np.linalg.norm(each[late])) / share, slab.length
        if excess > 0.5:
            length *= float(np.clip(0.9 * excess ** (-1 / ORDER), 0.3, 0.7)) if improved else 0.25
        if not split.any() and (length == slab.length or length < SHORTEST * (self.end - self.start)):
            return None
        middle = (slab.breaks[:-1] + slab.breaks[1:])[split] / 2
        return slab.guessed(np.sort(np.concatenate([slab.breaks, middle])), slab.start, length, slab.before)

    def _retried(self, slab: Slab, length: float) -> Slab:
        if slab.before is not None:
            return slab.before.guessed(slab.breaks, slab.start, length, slab.before)
        slab.values[:] = 0.0
        return slab.guessed(slab.breaks, slab.start, length, None)

    def _growth(self, slab: Slab) -> float:
        """Return by how much the next slab may be longer, from the residual or, where that is rounding, from tails."""
        share = self._share(slab)
        ratio = 0.5 * share / max(self.residuals[-1], 1e-300)
        smooth = np.linalg.norm(self._contributions(slab, slab.tails(TAIL / 1.5)[1])) < share
        return float(np.clip(ratio ** (1 / ORDER), 1.5 if smooth else 1.0, 2.0))

    def _merged(self, slab: Slab) -> np.ndarray:
        """Return breaks where neighbours that half the degrees resolve have become one."""
        across = self._contributions(slab, slab.tails(TAIL / 2)[0])
        limit = 0.05 * self._share(slab) / math.sqrt(slab.cells)
        keep, c = [slab.breaks[0]], 0
        while c < slab.cells:
            alike = c + 1 < slab.cells and np.isclose(slab.widths[c], slab.widths[c + 1], rtol=1e-6)
            step = 2 if alike and slab.cells > 2 and max(across[c : c + 2]) < limit and self._aligned(slab, c) else 1
            c += step
            keep.append(slab.breaks[c])
        return np.array(keep)

    def _aligned(self, slab: Slab, c: int) -> bool:
        """Return whether a cell and the next are halves of one of the dyadic division."""
        place = (slab.breaks[c] - self.low) / (2 * slab.widths[c])
        return abs(place - round(place)) < 1e-6
