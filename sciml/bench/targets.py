"""What a suite expects of its solvers, and whether they reach it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sciml.bench.numbers import plain, seconds_text
from sciml.parameters import Positive, check

if TYPE_CHECKING:
    from sciml.bench.records import Result


@dataclass(frozen=True)
class Target:
    """What a solver should reach on a problem.

    Args:
        error: of the problem's primary score, the median over seeds.
        seconds: from the call of the solver to the evaluated answer, the median over seeds.
    """

    error: Positive
    seconds: Positive


@dataclass(frozen=True)
class Verdict:
    """Whether a target is met: by the medians over all seeds asked for, of which none may fail.

    Args:
        problem: the title of the problem's section.
        solver: the solver's name.
        target: what is expected.
        planned: number of seeds asked for; 0 where the pair does not fit.
        runs: the runs that came to an end, one for each seed.
    """

    problem: str
    solver: str
    target: Target
    planned: int = 0
    runs: tuple["Result", ...] = ()

    @property
    def error(self) -> float:
        """The median error; infinite where as many seeds failed, NaN before any run ended."""
        return float(np.median([r.error for r in self.runs])) if self.runs else np.nan

    @property
    def seconds(self) -> float:
        """The median seconds of the runs that did not fail, NaN where there is none."""
        whole = [r.whole for r in self.runs if r.failure is None]
        return float(np.median(whole)) if whole else np.nan

    @property
    def answered(self) -> int:
        """Number of seeds that gave an answer."""
        return sum(r.failure is None for r in self.runs)

    @property
    def met(self) -> bool:
        """Whether both medians are within the target and every seed gave an answer."""
        reached = self.error <= self.target.error and self.seconds <= self.target.seconds
        return reached and 0 < self.planned == self.answered


def read_target(problem: str, solver: str, given: Mapping[str, Any]) -> Target:
    """Return a target from a suite.

    Raises:
        UserError: a value that lacks or is no positive number.
    """
    return Target(**check(f"the target of {problem} with {solver}", Target.__init__, given))


COLUMNS = ("problem", "solver", "error, target", "median", "seconds, target", "median", "seeds", "met")


def headline(verdicts: Sequence[Verdict]) -> str:
    """Return how many targets are met."""
    return f"Targets: {sum(v.met for v in verdicts)} of {len(verdicts)} met"


def target_texts(verdict: Verdict) -> list[str]:
    """Return a target as the table shows it, one text per column."""
    target = verdict.target
    return [
        verdict.problem,
        verdict.solver,
        plain(target.error),
        "–" if math.isnan(verdict.error) else f"{verdict.error:.1e}",
        f"{target.seconds:g}",
        seconds_text(verdict.seconds),
        f"{verdict.answered}/{verdict.planned}" if verdict.planned else "does not fit",
        "yes" if verdict.met else "no",
    ]


def target_data(verdict: Verdict) -> dict[str, Any]:
    """Return a target as JSON values."""
    return {
        "problem": verdict.problem,
        "solver": verdict.solver,
        "target": asdict(verdict.target),
        "error": verdict.error,
        "seconds": verdict.seconds,
        "seeds_answered": verdict.answered,
        "seeds_planned": verdict.planned,
        "met": verdict.met,
    }
