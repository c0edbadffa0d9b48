"""Calibration: the classical counterpart of networks that seek the numbers in an equation."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from annotated_types import Interval
from scipy import optimize

from sciml.clock import Clock
from sciml.errors import SolveError
from sciml.parameters import Count, Fraction
from sciml.pde.conditions import Observed
from sciml.solution import Solution
from sciml.solver import Context, Solver
from sciml.training.settings import Training
from sciml.views.residual import Residual

from ._interval import quantile
from .spectral import Spectral

FARTHEST = 50.0
"""The largest logarithm of a number relative to its guess."""


class Calibration(Solver[Residual]):
    """Fits the numbers that are sought to the measurements by nonlinear least squares over forward solves.

    min_θ  Σ_i (u(x_i; θ) - d_i)²

    Each evaluation solves the equations by spectral collocation; derivatives by θ are central differences, over
    a step that balances their error with the forward solver's. A number keeps the sign of its guess, since its
    logarithm is what is sought; one whose guess is zero is sought as it is. Intervals are those of the linearised
    model, ``θ ± t s √((JᵀJ)⁻¹)`` with ``s² = |r|² / (m - k)`` and Student's t for m - k degrees of freedom, plus what
    the stated error of the forward solves may shift; the bias of equations that are wrong is not in them.
    Source: D. M. Bates, D. G. Watts, Nonlinear Regression Analysis and Its Applications, Wiley (1988),
    doi:10.1002/9780470316757. A fit that does not converge has none.

    Args:
        tolerance: of each forward solve, relative to the greatest value of each field.
        confidence: with which an interval covers the true number.
        evaluations: the most residuals that are evaluated before the fit counts as not converged.
    """

    kind = "classical"
    needs = Residual
    deterministic = True
    ladder: ClassVar[Mapping[str, tuple[Any, ...]]] = {"tolerance": (1e-2, 1e-4, 1e-6, 1e-8)}

    def __init__(
        self,
        tolerance: Annotated[float, Interval(ge=1e-11, le=0.1)] = 1e-8,
        confidence: Fraction = 0.95,
        evaluations: Count = 50,
    ) -> None:
        self.tolerance = tolerance
        self.confidence = confidence
        self.evaluations = evaluations

    def refuses(self, problem: Residual) -> str | None:
        if not problem.unknowns:
            return "no number is sought"
        if sum(len(d.values) for d in _data(problem)) <= len(problem.unknowns):
            return f"expected more measurements than the {len(problem.unknowns)} numbers sought"
        return Spectral(self.tolerance).refuses(problem.given({u.name: u.guess for u in problem.unknowns}))

    def solve(self, problem: Residual, context: Context) -> Solution:
        most = min(self.evaluations, context.training.max_steps or self.evaluations)
        model = _Model(problem, Spectral(self.tolerance), context, most)
        start = np.array([0.0 if u.guess else u.guess for u in problem.unknowns])
        jacobian: Any = model.jacobian
        fit = optimize.least_squares(
            model.residual,
            start,
            jacobian,
            x_scale="jac",
            xtol=max(1e-3 * self.tolerance, 1e-14),
            ftol=1e-15,
            gtol=1e-15,
            max_nfev=most,
        )
        forward = model.forward(fit.x)
        numbers = model.numbers(fit.x)
        notes: dict[str, float | str] = {**numbers}
        error = model.error(forward)
        converged = fit.status > 0
        told = np.linalg.svd(fit.jac, compute_uv=False).min() > np.linalg.norm(error) / model.step
        if converged and told:
            reach = self._reach(fit.fun, fit.jac, error)
            for unknown, z, width in zip(problem.unknowns, fit.x, reach, strict=True):
                low, high = sorted(_number(unknown.guess, end) for end in (z - width, z + width))
                notes |= {f"{unknown.name}_low": low, f"{unknown.name}_high": high}
        kept = ("method", "resolution", "unknowns", "estimated_error", "tolerance_met")
        met = converged and told and forward.notes["tolerance_met"] == "yes"
        notes |= {
            "confidence": self.confidence,
            "misfit": float(np.sqrt(2 * fit.cost / len(fit.fun))),
            "forward_solves": model.solves,
            **{f"forward_{name}": forward.notes[name] for name in kept},
            "tolerance_met": "yes" if met else "no",
            "stop_reason": ("converged" if converged else "evaluations") if told else "singular Jacobian",
        }
        state = {**forward.state, **{name: np.array(value) for name, value in numbers.items()}}
        return Solution(problem, _with_numbers(forward, numbers), state, notes)

    def _reach(self, residual: np.ndarray, jacobian: np.ndarray, error: np.ndarray) -> np.ndarray:
        """Return half of each interval: what noise explains, and what an error of the predictions may add."""
        inverse, degrees = np.linalg.pinv(jacobian), len(residual) - jacobian.shape[1]
        spread = np.linalg.norm(residual) / np.sqrt(degrees) * np.linalg.norm(inverse, axis=1)
        return quantile(len(residual), jacobian.shape[1], self.confidence) * spread + np.abs(inverse) @ error

    def restore(self, problem: Residual, state: Mapping[str, np.ndarray]) -> Solution:
        numbers = {u.name: float(state[u.name]) for u in problem.unknowns}
        forward = Spectral(self.tolerance).restore(problem.given(numbers), state)
        return Solution(problem, _with_numbers(forward, numbers), state)


class _Model:
    """The measurements as a function of θ, each number's logarithm relative to its guess."""

    def __init__(self, problem: Residual, solver: Spectral, context: Context, evaluations: int) -> None:
        self.problem, self.solver, self.context, self.evaluations = problem, solver, context, evaluations
        self.data = _data(problem)
        self.solves = self.evaluated = 0
        self.clock = Clock(context)
        self.solved: dict[bytes, Solution] = {}

    @property
    def step(self) -> float:
        """Over which derivatives are taken: a wider one costs accuracy, a narrower one amplifies the solver's error."""
        return math.cbrt(self.solver.tolerance)

    def error(self, forward: Solution) -> np.ndarray:
        """Return the stated error of each prediction, shape (m,)."""
        relative = float(forward.notes["estimated_error"])
        sizes = [np.full(len(d.values), np.abs(forward.state[d.field]).max()) for d in self.data]
        return relative * np.concatenate(sizes)

    def numbers(self, theta: np.ndarray) -> dict[str, float]:
        return {u.name: _number(u.guess, z) for u, z in zip(self.problem.unknowns, theta, strict=True)}

    def forward(self, theta: np.ndarray) -> Solution:
        """Return the solution for given numbers; those of the current step are kept, since fits ask again."""
        key = theta.tobytes()
        if key not in self.solved:
            left = self.clock.remaining
            self.clock.check()
            limit = {"max_seconds": left if math.isfinite(left) else None}
            training = Training(**{**self.context.training.settings, **limit})
            self.solves += 1
            forward = self.problem.given(self.numbers(theta))
            self.solved[key] = self.solver.solve(forward, Context(training=training))
        return self.solved[key]

    def misfit(self, theta: np.ndarray) -> np.ndarray:
        """Return prediction minus measurement, shape (m,)."""
        forward, names = self.forward(theta), [f.name for f in self.problem.fields]
        return np.concatenate([forward(d.points)[:, names.index(d.field)] - d.values for d in self.data])

    def residual(self, theta: np.ndarray) -> np.ndarray:
        """Return the misfit; no numbers where the equations have no solution, so that a shorter step is tried."""
        self.evaluated += 1
        try:
            found = self.misfit(theta)
        except SolveError:
            self.clock.check()
            if self.evaluated == 1:
                raise
            return np.full(sum(len(d.values) for d in self.data), np.nan)
        shown = {**self.numbers(theta), "misfit": float(np.sqrt(np.mean(found**2)))}
        self.context.progress.report(self.evaluated / self.evaluations, shown)
        return found

    def jacobian(self, theta: np.ndarray) -> np.ndarray:
        self.solved = {key: solution for key, solution in self.solved.items() if key == theta.tobytes()}
        return np.stack([self._slope(theta, shift) for shift in self.step * np.eye(len(theta))], axis=1)

    def _slope(self, theta: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Return a central difference, or that to one side where the equations have no solution on the other."""
        found: dict[int, np.ndarray] = {}
        for side in (1, -1):
            try:
                found[side] = self.misfit(theta + side * shift)
            except SolveError:
                self.clock.check()
                if side < 0 and not found:
                    raise
        if len(found) == 1:
            found[0] = self.misfit(theta)
        (one, high), (other, low) = found.items()
        return (high - low) / ((one - other) * self.step)


def _data(problem: Residual) -> Sequence[Observed]:
    return [c for c in problem.conditions() if isinstance(c, Observed)]


def _number(guess: float, z: float) -> float:
    return float(guess * np.exp(np.clip(z, -FARTHEST, FARTHEST)) if guess else z)


def _with_numbers(forward: Solution, numbers: Mapping[str, float]):
    def function(points: np.ndarray) -> np.ndarray:
        return np.column_stack([forward(points), np.tile([*numbers.values()], (len(points), 1))])

    return function
