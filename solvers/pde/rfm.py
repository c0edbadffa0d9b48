"""The random feature method: fields as sums of random sines, whose coefficients are found by least squares."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Interval

from sciml.clock import Clock
from sciml.errors import SolveError
from sciml.pde.conditions import Observed
from sciml.pde.singular import split
from sciml.solution import Solution
from sciml.solver import Context, Solver
from sciml.views.residual import Residual

from . import _cells, _lines, _lines_answer
from ._features import Features
from ._interval import CONFIDENCE, quantile, stated
from ._rfm_search import FEWEST, Fit, Search
from ._rfm_system import Expansion, System
from ._rfm_widening import Widening

Notes = dict[str, float | str]
BLOCK = 4096
"""Points evaluated at once."""
MEMORY = 2.0**33
"""The most bytes for a least squares matrix and its copies."""
CELLS, LINES = "cells_", "lines_"
"""What names of a march's arrays begin with."""
BY_LINES = 100
"""By how much lines, which need no matrix, may have more coefficients at one instant."""


class RFM(Solver[Residual]):
    """Expands every field in one fixed random layer, ``u(z) = sum_j c_j sin(w_j . z + b_j)``, trains c alone.

    Equations and conditions are collocated; their residuals are least squares for c, and for the numbers that are
    sought: one solve where they are linear, else Gauss-Newton. The range of the w_j along each axis is that with the
    least residual at points held out, found with few features; then more are taken until the tolerance holds.
    Where it would not, and the problem has time and one axis of space, space is divided into cells that are
    marched in time slabs; where neither meets the tolerance, the smaller residual wins. On a periodic box of several
    axes of space, where the rates are of first order and the highest derivatives linear with constant factors,
    features have space alone and their c_j are marched in time from the beginning: a Fourier-Galerkin method in all
    but name, and said to be one in the notes. ``trainer.max_steps`` counts the fits, there the marches. The interval
    of a number that is sought is that of the linearised fit, for a ``confidence`` of 0.95; it tells what noise does,
    not the bias of the features.
    Source: J. Chen, X. Chi, W. E, Z. Yang, Bridging traditional and machine learning-based algorithms for solving
    PDEs: the random feature method (2022), arXiv 2207.13380.

    Where a problem knows singular parts of its fields, features make up the rest, in bands as wide as gains show.

    Args:
        tolerance: of every equation's and condition's residual at points held out, relative to the size of what it
            adds up; of measurements, at their points. From 1e-4 on normal equations take the place of QR.
        coefficients: the most for the whole domain, all fields together; a hundred times as many at one instant where
            those of a periodic box are marched, which needs no matrix.
    """

    kind = "neural"
    needs = Residual
    ladder: ClassVar[Mapping[str, tuple[Any, ...]]] = {"tolerance": (1e-3, 1e-5, 1e-7, 1e-9)}

    def __init__(
        self,
        tolerance: Annotated[float, Interval(ge=1e-13, le=0.1)] = 1e-10,
        coefficients: Annotated[int, Ge(256)] = 2500,
    ) -> None:
        self.tolerance = tolerance
        self.coefficients = coefficients

    def refuses(self, problem: Residual) -> str | None:
        fields = len(problem.fields)
        if fields * FEWEST > self.coefficients:
            return f"{fields} fields need at least {fields * FEWEST} coefficients; the limit is {self.coefficients}"
        needed = 24.0 * self.coefficients * System(problem).rows(self.coefficients // fields)
        if needed > MEMORY:
            return f"{self.coefficients} coefficients need {needed / 2**30:.0f} GiB of memory; take fewer"
        return None

    def solve(self, problem: Residual, context: Context) -> Solution:
        return split(problem, lambda smooth: self._solve(smooth, context))

    def restore(self, problem: Residual, state: Mapping[str, np.ndarray]) -> Solution:
        return split(problem, lambda smooth: self._restore(smooth, state))

    def _solve(self, problem: Residual, context: Context) -> Solution:
        clock, most = Clock(context), context.training.max_steps
        if _lines.refusal(problem) is None:
            found = _lines.march(problem, self.tolerance, context.seed, clock, BY_LINES * self.coefficients, most)
            return _marched(problem, LINES, found)
        marching = _cells.refusal(problem) is None

        def report(fit: Fit | None) -> str | None:
            if fit:
                held_out = max(fit.held_out, self.tolerance)
                shown = {"features": len(fit.expansion.features), "held_out": fit.held_out}
                context.progress.report(math.log(min(held_out, 1.0)) / math.log(self.tolerance), shown)
            if clock.remaining <= 0:
                return "max_seconds"
            return "max_steps" if most is not None and search.best and search.fits >= most else None

        kind = Widening if problem.singularities() else Search
        search = kind(System(problem), self.tolerance, context.seed, self.coefficients, report, patient=not marching)
        fit, reason = search.run()
        notes = _notes(problem, fit, search, reason)
        if not marching or search.met(fit) or search.stopped:
            return _on_the_whole(problem, fit, notes)
        try:
            found = _cells.march(problem, self.tolerance, context.seed, clock)
        except SolveError as error:
            notes["march"] = str(error)
            if clock.remaining <= 0:
                notes["stop_reason"] = "max_seconds"
            return _on_the_whole(problem, fit, notes)
        left = float(found.notes["held_out_residual"])
        if found.notes["tolerance_met"] == "no" and fit.held_out < left:
            notes["march"] = f"its held-out residual {left:.2g} is greater"
            return _on_the_whole(problem, fit, notes)
        return _marched(problem, CELLS, found, {"global_held_out_residual": fit.held_out})

    def _restore(self, problem: Residual, state: Mapping[str, np.ndarray]) -> Solution:
        for prefix, remake in ((CELLS, _cells.remake), (LINES, _lines_answer.remake)):
            arrays = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
            if arrays:
                return Solution(problem, remake(problem, arrays), state)
        features = Features(state["weights"], state["phases"], state["origin"])
        return Solution(problem, _function(Expansion(features, state["coefficients"], state["unknowns"])), state)


def _marched(problem: Residual, prefix: str, found: _cells.Outcome, notes: Notes | None = None) -> Solution:
    state = {prefix + name: array for name, array in found.state.items()}
    return Solution(problem, found.function, state, {**found.notes, **(notes or {})})


def _on_the_whole(problem: Residual, fit: Fit, notes: Notes) -> Solution:
    return Solution(problem, _function(fit.expansion), _state(fit.expansion), notes)


def _notes(problem: Residual, fit: Fit, search: Search, reason: str) -> Notes:
    notes: Notes = {
        "method": "random features on the whole domain",
        "features": len(fit.expansion.features),
        "parameters": fit.expansion.coefficients.size + len(fit.expansion.unknowns),
        **{f"bandwidth_{a}": b for a, b in zip(problem.region.axes, fit.bandwidths, strict=True)},
        "fits": search.fits,
        "newton_iterations": fit.steps,
        "held_out_residual": fit.held_out,
        "tolerance_met": "yes" if search.met(fit) else "no",
        "stop_reason": reason,
    }
    if fit.data_misfit is not None:
        notes["data_misfit"] = fit.data_misfit
    if problem.unknowns:
        measured = sum(len(c.values) for c in problem.conditions() if isinstance(c, Observed))
        halves = quantile(measured, len(problem.unknowns)) * search.deviations(fit)
        notes["confidence"] = CONFIDENCE
        for unknown, value, half in zip(problem.unknowns, fit.expansion.unknowns, halves, strict=True):
            notes |= stated(unknown.name, float(value), float(half))
    return notes


def _function(expansion: Expansion):
    features, value = expansion.features, (0,) * len(expansion.features.origin)

    def function(points: np.ndarray) -> np.ndarray:
        blocks = [points[k : k + BLOCK] for k in range(0, max(len(points), 1), BLOCK)]
        fields = np.concatenate([features.matrix(b, value) @ expansion.coefficients for b in blocks])
        return np.concatenate([fields, np.tile(expansion.unknowns, (len(points), 1))], axis=1)

    return function


def _state(expansion: Expansion) -> dict[str, np.ndarray]:
    features = expansion.features
    return {
        "weights": features.weights,
        "phases": features.phases,
        "origin": features.origin,
        "coefficients": expansion.coefficients,
        "unknowns": expansion.unknowns,
    }
