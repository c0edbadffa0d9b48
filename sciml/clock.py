"""The time limit of one solve."""

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sciml.errors import SolveError

if TYPE_CHECKING:
    from sciml.solver import Context


class Clock:
    """Runs from its making to the time limit of a solve.

    Args:
        context: whose ``training.max_seconds`` is the limit, and whose ``progress`` is told of reports.
    """

    def __init__(self, context: "Context") -> None:
        self._begin, self._limit = time.perf_counter(), context.training.max_seconds
        self._progress = context.progress

    @property
    def remaining(self) -> float:
        """Seconds that are left, not positive where none are; infinite without a limit."""
        return math.inf if self._limit is None else self._limit - (time.perf_counter() - self._begin)

    def check(self) -> None:
        """Raise SolveError where no time is left."""
        if self.remaining <= 0:
            raise SolveError(f"not solved within {self._limit:g} s; allow more, or ask for less accuracy")

    def report(self, done: float, values: Mapping[str, float]) -> None:
        """Pass a report on.

        Raises:
            SolveError: no time is left.
        """
        self.check()
        self._progress.report(done, values)
