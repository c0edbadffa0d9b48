"""Marching of slabs of cells: how long they are, and where cells are halved or merged."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from sciml.errors import SolveError

from ._cells_basis import Basis
from ._cells_rows import Statement
from ._cells_slab import Slab, solve

Report = Callable[[float, Mapping[str, float]], None]

FIRST = 20
"""The share of time that the first slab tries is one over this."""
LEAST_SHARE = 0.03
"""A slab may use this share of the tolerance, however short it is."""
SHORTEST = 1e-12
"""The shortest slab and the narrowest cell, relative to the whole."""
MOST_CELLS = 300
PATIENCE = 3
"""Refinements in a row that may leave a slab's residual nearly as large as it was."""
RESOLVED = 0.3
"""Coefficients below this share of the residual belong to a resolved function."""
ITERATIONS = 20
ORDER = 10
"""The power of a slab's length with which its residual is taken to fall."""
TAIL = 0.7
"""Legendre coefficients from this share of the degrees on tell whether cells or the slab are too long."""


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
        self.floor = 0.0
        """The residual at which refinement of an earlier slab ceased to help."""
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
            enough = total <= max(self._share(slab), 1.5 * self.floor)
            finer = None if enough or not patience else self._refined(slab, sizes, improved)
            if finer is None:
                if not patience:
                    self.floor = max(self.floor, least)
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
        along, sizes = slab.tails(TAIL / 1.5)[1], slab.held_out()
        smooth = np.linalg.norm(self._contributions(slab, along)) < share or np.all(along < RESOLVED * sizes)
        smooth |= self.residuals[-1] <= 1.5 * self.floor
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
