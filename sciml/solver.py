"""A solver turns one view of a problem into a solution; neural and classical ones are the same kind of thing."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np

from sciml.errors import UserError
from sciml.parameters import Configured
from sciml.problem import Problem, plugin_name
from sciml.progress import Progress
from sciml.solution import Solution
from sciml.training.settings import Training

P = TypeVar("P", bound=Problem, contravariant=True)
Kind = Literal["classical", "neural", "peer", "trivial"]


@dataclass(frozen=True)
class Context:
    """What one solve may use.

    Args:
        seed: the one source of randomness.
        training: how networks are trained; other solvers take the precision, device and time limit from it.
        folder: where checkpoints and the history go; None keeps nothing.
        resume: continue from the last checkpoint in ``folder``.
        progress: what is told while the work goes on.
    """

    seed: int = 0
    training: Training = field(default_factory=Training)
    folder: Path | None = None
    resume: bool = False
    progress: Progress = field(default_factory=Progress)


class Solver(Configured, ABC, Generic[P]):
    """One method. ``needs`` names the one view that it solves."""

    name: ClassVar[str] = ""
    kind: ClassVar[Kind]
    needs: ClassVar[type[Problem]]
    precision_default: ClassVar[Literal["64", "32"]] = "64"
    """Bits of a real number where the training asks for none."""
    ladder: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Values of one parameter from coarse to fine, for the work-precision figure."""
    transfers: ClassVar[bool] = False
    """Whether what was learnt of some problems serves another."""
    deterministic: ClassVar[bool] = False
    """Whether neither the answer nor its scores depend on the seed, so that a benchmark runs one seed for all."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = plugin_name(cls)

    def refuses(self, problem: P) -> str | None:
        """Return why this solver cannot take a problem that offers its view, or None."""
        return None

    @abstractmethod
    def solve(self, problem: P, context: Context) -> Solution:
        """Solve the problem.

        Raises:
            SolveError: the method broke down; the message names where.
        """

    @abstractmethod
    def restore(self, problem: P, state: Mapping[str, np.ndarray]) -> Solution:
        """Make a solution again from its state, without solving."""


def misfit(problem: Problem, solver: Solver[Any]) -> str | None:
    """Return in one line why a pair does not fit, or None where it does."""
    if not isinstance(problem, solver.needs):
        offered = ", ".join(view.__name__ for view in problem.views()) or "none"
        return f"{solver.name} needs the view {solver.needs.__name__}; {problem.name} offers {offered}"
    reason = solver.refuses(problem)
    if solver.kind == "neural" and not solver.transfers and problem.trained_on != (problem,):
        reason = "what it learns of other problems serves them alone"
    return f"{solver.name} refuses {problem.name}: {reason}" if reason else None


def require_fit(problem: Problem, solver: Solver[Any]) -> None:
    """Raise UserError where a pair does not fit."""
    reason = misfit(problem, solver)
    if reason:
        raise UserError(reason)


def require_posed(problem: Problem) -> tuple[str, ...]:
    """Return the warnings about a problem's definition, one line each.

    Raises:
        UserError: it is ill-posed; the message holds every reason.
    """
    found = list(problem.complaints())
    reasons = [c.text for c in found if c.fatal]
    if reasons:
        raise UserError(f"{problem.name} is ill-posed: {'; also '.join(reasons)}")
    return tuple(f"{problem.name}: {c.text}" for c in found)
