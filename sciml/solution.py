"""A solution is a function from a problem's inputs to its outputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from sciml.errors import UserError
from sciml.html import table
from sciml.problem import Problem, Variable


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

    Args:
        sampler: ``sampler(count, observation, seed)`` returns samples of shape (count, parameters).
    """

    sampler: Callable[[int, np.ndarray, int], np.ndarray] = field(kw_only=True)

    def sample(self, count: int, observation: ArrayLike, seed: int = 0) -> np.ndarray:
        """Return posterior samples, shape (count, parameters), given one observation of shape (inputs,)."""
        observation = np.asarray(observation, dtype=float)
        if observation.shape != (len(self.inputs),):
            raise UserError(f"expected one observation of shape ({len(self.inputs)},), got {observation.shape}")
        return self.sampler(count, observation, seed)
