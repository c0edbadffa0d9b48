"""The library in two calls: solve a problem, and load a run."""

import warnings
from pathlib import Path
from typing import TypeVar

from sciml.problem import Problem
from sciml.progress import Progress
from sciml.runs.folder import load
from sciml.solution import Solution
from sciml.solver import Context, Solver, require_fit, require_posed
from sciml.training.settings import Training

__all__ = ["load", "solve"]

Q = TypeVar("Q", bound=Problem)


def solve(
    problem: Q,
    solver: Solver[Q],
    seed: int = 0,
    training: Training | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Solution:
    """Solve a problem: ``solution = sciml.solve(Heat(diffusivity=0.2), PINN(), seed=0)``.

    Args:
        problem: what to solve.
        solver: how.
        seed: the one source of randomness.
        training: device, precision and stops of a network's training.
        folder: where checkpoints and the history go; None keeps nothing.
        progress: what is told while the work goes on.

    Raises:
        UserError: the pair does not fit, or the problem is ill-posed; where it may be, a warning says so.
        SolveError: the method broke down.
    """
    require_fit(problem, solver)
    for line in require_posed(problem):
        warnings.warn(line, stacklevel=2)
    return solver.solve(problem, Context(seed, training or Training(), folder, progress=progress or Progress()))
