"""A solution is a function from a problem's inputs to its outputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from sciml.errors import UserError, missing
from sciml.html import table
from sciml.problem import Problem, Variable

if TYPE_CHECKING:
    from xarray import DataTree

    from sciml.inference.calibration import Calibration


@dataclass(frozen=True)
class Solution:
    """A solved problem as a function, with the arrays from which its solver restores it.

    Args:
        problem: what was solved.
        function: maps an array of shape (n, inputs) to one of shape (n, outputs).
        state: arrays by name; ``solver.restore(problem, state)`` makes the same solution again.
        notes: what the solver has to say of itself: iterations, simulator calls, a tolerance not met.
    """

    problem: Problem
    function: Callable[[np.ndarray], np.ndarray]
    state: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, float | str] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[Variable, ...]:
        return self.problem.inputs

    @property
    def outputs(self) -> tuple[Variable, ...]:
        return self.problem.outputs

    def _repr_html_(self) -> str:
        variables = {"from": self.inputs, "to": self.outputs}
        shown = {
            k: ", ".join(f"{v.name} [{v.unit}]" for v in vs[:8]) + (" ..." if len(vs) > 8 else "")
            for k, vs in variables.items()
        }
        return table({"problem": repr(self.problem), **shown, **self.notes})

    def __call__(self, points: ArrayLike) -> np.ndarray:
        """Return the outputs, shape (n, outputs), at points of shape (n, inputs).

        Raises:
            UserError: points of another shape, or not finite.
        """
        points = np.asarray(points, dtype=float)
        width = len(self.inputs)
        if points.ndim != 2 or points.shape[1] != width:
            names = ", ".join(f"{v.name} [{v.unit}]" for v in self.inputs[:6]) + (", ..." if width > 6 else "")
            expected = f"expected points of shape (n, {width}): {names}"
            raise UserError(f"{expected}; got {points.shape}; stack the inputs as columns")
        if not np.isfinite(points).all():
            raise UserError("expected finite points, got NaN or infinity; remove those rows")
        return self.function(points)


@dataclass(frozen=True)
class Posterior(Solution):
    """A solution of an inference problem: as a function it returns the posterior mean given each observation.

    Every method takes one observation, shape (inputs,), or several, shape (n, inputs), in whose case the results have
    that leading dimension too.

    Args:
        sampler: ``sampler(count, observation, seed)`` returns samples of shape (count, parameters).
        density: ``density(theta, observation)`` returns log p(θ|x) of (count, parameters), shape (count,); None where
            a method has samples alone.
        calibration: how calibrated it is, where its solver held simulations back to tell.
    """

    sampler: Callable[[int, np.ndarray, int], np.ndarray] = field(kw_only=True)
    density: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = field(default=None, kw_only=True)
    calibration: "Calibration | None" = field(default=None, kw_only=True)

    def sample(self, count: int, observation: ArrayLike, seed: int = 0) -> np.ndarray:
        """Return posterior samples, shape (count, parameters)."""
        rows = self._rows(observation)
        drawn = np.stack([self.sampler(count, x, seed + k) for k, x in enumerate(rows)])
        return drawn.reshape(np.shape(observation)[:-1] + drawn.shape[1:])

    def log_prob(self, theta: ArrayLike, observation: ArrayLike) -> np.ndarray:
        """Return log p(θ|x) of parameters (count, parameters), shape (count,); minus infinity outside the prior.

        Raises:
            UserError: the solver gives no density, or parameters and observations do not fit.
        """
        density, rows, theta = self._density(), self._rows(observation), np.asarray(theta, dtype=float)
        leading, width = np.shape(observation)[:-1], len(self.outputs)
        if theta.shape[:-2] != leading or theta.ndim != len(leading) + 2 or theta.shape[-1] != width:
            asked = ", ".join(map(str, (*leading, "n", width)))
            raise UserError(f"expected parameters of shape ({asked}) for these observations, got {theta.shape}")
        return np.stack(
            [density(t, x) for t, x in zip(theta.reshape(len(rows), -1, width), rows, strict=True)]
        ).reshape(theta.shape[:-1])

    def map(self, observation: ArrayLike, seed: int = 0) -> np.ndarray:
        """Return the parameters of greatest density, shape (parameters,), from the best of a thousand samples uphill.

        Raises:
            UserError: the solver gives no density.
        """
        density, rows = self._density(), self._rows(observation)
        modes = np.stack([_mode(density, self.sampler(1000, x, seed), x) for x in rows])
        return modes.reshape(np.shape(observation)[:-1] + modes.shape[1:])

    def inference_data(self, count: int, observation: ArrayLike, seed: int = 0) -> "DataTree":
        """Return posterior samples and the observation as groups of named variables, as ArviZ takes them.

        Raises:
            UserError: xarray is not installed, or there are several observations.
        """
        try:
            from xarray import Dataset, DataTree
        except ImportError:
            raise missing("inference_data", "xarray", "arviz") from None
        if np.ndim(observation) != 1:
            raise UserError(f"expected one observation of shape ({len(self.inputs)},), got {np.shape(observation)}")
        (x,), samples = self._rows(observation), self.sample(count, observation, seed)
        drawn = {
            v.name: (("chain", "draw"), samples[None, :, k], {"units": v.unit}) for k, v in enumerate(self.outputs)
        }
        seen = {v.name: ((), x[k], {"units": v.unit}) for k, v in enumerate(self.inputs)}
        groups = {"posterior": Dataset(drawn), "observed_data": Dataset(seen)}
        return DataTree.from_dict(groups, name=self.problem.name)

    def _density(self) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        if self.density is None:
            raise UserError("this posterior has samples alone; expected one with a density, such as npe's or nre's")
        return self.density

    def _rows(self, observation: ArrayLike) -> np.ndarray:
        rows = np.asarray(observation, dtype=float)
        if rows.ndim not in (1, 2) or rows.shape[-1] != len(self.inputs):
            width = len(self.inputs)
            raise UserError(f"expected one observation of shape ({width},), or several (n, {width}), got {rows.shape}")
        return np.atleast_2d(rows)


def _mode(
    density: Callable[[np.ndarray, np.ndarray], np.ndarray], samples: np.ndarray, observation: np.ndarray
) -> np.ndarray:
    best = samples[np.argmax(density(samples, observation))]
    spread = 0.3 * samples.std(axis=0)
    simplex = best + np.vstack([np.zeros_like(spread), np.diag(np.where(spread > 0, spread, 1e-6))])
    found = minimize(
        lambda theta: -float(density(theta[None], observation)[0]),
        best,
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "xatol": 1e-3 * spread.max(), "fatol": 1e-4, "adaptive": True},
    )
    return found.x
