"""Regularised output least squares: the classical counterpart of networks that seek a field of the equations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import linalg

from sciml.clock import Clock
from sciml.errors import SolveError
from sciml.parameters import Count
from sciml.pde.collocation import GridFunction, chebyshev
from sciml.pde.fields import Derivative
from sciml.solution import Solution
from sciml.solver import Context, Solver
from sciml.views.residual import Residual

from ._collocated import System
from ._layout import Layout, Mesh
from ._sought import Model, Sought, sought

SETTLED = 1e-8
"""The relative change of the sought field at which the iteration has converged."""
CAUTION = 1.4
"""How many times an effective parameter counts in cross-validation."""
SHORTEST = 1e-3
"""The least share of a step that is tried."""
ALPHAS = np.logspace(2, -28, 121)
"""Weights of smoothness that are tried, relative to the best determined direction."""


class Tikhonov(Solver[Residual]):
    """Fits fields in the equations to measurements of others by Gauss-Newton, smoothed in the H1 norm.

    min_a  Σ_i (u(x_i; a) - d_i)² + α ∫ |∇a|² + ε (a - 1)² dx

    The field a is a polynomial on Chebyshev points that meets its own conditions; u(·; a) solves the equations by
    collocation, and its derivative by a is exact. The small ε fixes only what measurements leave open. In each step
    α minimises generalised cross-validation of the linearised fit, so the size of the noise need not be known; each
    parameter counts 1.4 times, which keeps it from following noise. The stated deviation of a is what noise of the
    size of the misfit causes after smoothing; the bias of smoothing is not in it.
    Source: C. R. Vogel, Computational Methods for Inverse Problems, SIAM (2002), doi:10.1137/1.9780898717570;
    Y.-J. Kim, C. Gu, Smoothing spline Gaussian regression: more scalable computation via efficient approximation,
    J. R. Stat. Soc. B 66 (2004).

    Args:
        degree: of the sought field along each axis.
        points: points per axis where the equations are collocated.
        steps: the most steps of Gauss-Newton.
    """

    kind = "classical"
    needs = Residual
    deterministic = True
    ladder: ClassVar[Mapping[str, tuple[Any, ...]]] = {"degree": (3, 6, 9, 12)}

    def __init__(self, degree: Count = 12, points: Count = 20, steps: Count = 30) -> None:
        self.degree = degree
        self.points = points
        self.steps = steps

    def refuses(self, problem: Residual) -> str | None:
        if problem.unknowns:
            return f"{', '.join(u.name for u in problem.unknowns)} is a number; it seeks fields"
        names = sought(problem)
        if not names:
            return "no field is sought: each has an equation or measurements"
        try:
            layout = Layout(problem.given({}, names))
        except ValueError as reason:
            return str(reason)
        if layout.marching or layout.periodic:
            return "it is set up for steady problems without periodic axes"
        return layout.imbalance() or Sought(problem, names, self.degree).refusal

    def solve(self, problem: Residual, context: Context) -> Solution:
        clock = Clock(context)
        names = sought(problem)
        field = Sought(problem, names, self.degree)
        layout = Layout(problem.given({}, names))
        model = Model(problem, System(Mesh.coarsest(layout, self.points)), field)
        finer = Model(problem, System(Mesh.coarsest(layout, self.points + 6)), field)
        z, steps = np.zeros(field.free.shape[1]), 0
        smooth = np.linalg.qr(field.rough @ field.free, mode="r")
        while True:
            misfit, slope = model.linearised(z)
            matrix = linalg.solve_triangular(smooth, slope.T, trans=1).T
            fit = _fit(matrix, matrix @ (smooth @ z) - misfit)
            ahead = linalg.solve_triangular(smooth, fit.minimiser) - z
            z = z + _share(model, lambda v, w=fit.alpha: w * np.sum((smooth @ v) ** 2), z, ahead) * ahead
            steps += 1
            settled = np.linalg.norm(smooth @ ahead) <= SETTLED * np.linalg.norm(smooth @ z)
            shown = {"misfit": float(np.sqrt(np.mean(misfit**2))), "alpha": fit.alpha}
            clock.report(steps / self.steps, shown)
            if settled or steps == self.steps:
                break
        predicted, better = model.predict(z), finer.predict(z)
        error = np.abs(predicted - better).max() / max(np.abs(better).max(), 1e-300)
        spread = field.free @ linalg.solve_triangular(smooth, fit.deviation)
        notes: dict[str, float | str] = {
            "method": "output least squares, H1",
            "alpha": fit.alpha,
            "misfit": float(np.sqrt(np.mean((predicted - model.measured) ** 2))),
            "effective_parameters": fit.effective,
            **{f"{name}_deviation": field.rms(name, spread) for name in names},
            "iterations": steps,
            "unknowns": len(z),
            "estimated_error": float(error),
            "stop_reason": "converged" if settled else "steps",
        }
        values = {**model.state(z), **field.values(z)}
        return Solution(problem, _function(problem, values), values, notes)

    def restore(self, problem: Residual, state: Mapping[str, np.ndarray]) -> Solution:
        values = {f.name: state[f.name] for f in problem.fields}
        return Solution(problem, _function(problem, values), values)


@dataclass(frozen=True)
class _Fit:
    """A smoothed linear fit in standard form.

    Args:
        alpha: the weight of smoothness.
        minimiser: w, shape (k,).
        effective: the trace of the matrix from measurements to predictions.
        deviation: a root of the covariance of w, shape (k, k).
    """

    alpha: float
    minimiser: np.ndarray
    effective: float
    deviation: np.ndarray


def _fit(matrix: np.ndarray, data: np.ndarray) -> _Fit:
    """Return the w that minimises ``|A w - b|² + α |w|²``, with α by generalised cross-validation.

    Args:
        matrix: A, shape (m, k).
        data: b, shape (m,).
    """
    left, s, right = linalg.svd(matrix, full_matrices=False)
    seen = left.T @ data
    unseen = np.sum((data - left @ seen) ** 2)
    alphas = s[0] ** 2 * ALPHAS
    filters = s**2 / (s**2 + alphas[:, None])
    missed = (((1 - filters) * seen) ** 2).sum(axis=1) + unseen
    degrees = len(data) - filters.sum(axis=1)
    cautious = len(data) - CAUTION * filters.sum(axis=1)
    best = int(np.where(cautious > 0, missed / cautious**2, np.inf).argmin())
    inverse = s / (s**2 + alphas[best])
    noise = np.sqrt(missed[best] / degrees[best])
    return _Fit(float(alphas[best]), right.T @ (inverse * seen), float(filters[best].sum()), noise * right.T * inverse)


def _share(model: Model, penalty: Callable[[np.ndarray], float], z: np.ndarray, ahead: np.ndarray) -> float:
    """Return by how much of a step the penalised misfit falls, halving it as long as it does not.

    Raises:
        SolveError: it falls by no step.
    """
    before, share = np.sum((model.predict(z) - model.measured) ** 2) + penalty(z), 1.0
    while share > SHORTEST:
        try:
            there = z + share * ahead
            if np.sum((model.predict(there) - model.measured) ** 2) + penalty(there) <= before * (1 + SETTLED):
                return share
        except SolveError:
            pass
        share /= 2
    raise SolveError("Gauss-Newton found no descent; a lower degree may be told better by the measurements")


def _function(problem: Residual, values: Mapping[str, np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    lines = {
        name: tuple(chebyshev(low, high, n) for (low, high), n in zip(problem.region.bounds, v.shape, strict=True))
        for name, v in values.items()
    }
    grid = GridFunction(lines, values)
    wanted = [Derivative(f.name, (0,) * len(problem.region.axes)) for f in problem.fields]

    def function(points: np.ndarray) -> np.ndarray:
        found = grid(points, wanted)
        return np.stack([found[d] for d in wanted], axis=1)

    return function
