"""The search for features of a remainder that singular parts leave over."""

import math
from typing import ClassVar

from sciml.errors import SolveError

from ._rfm_newton import STEPS
from ._rfm_search import Fit, Search

START = 1024
"""Coefficients at first: Newton finds no flow with fewer where layers are thin."""
NARROWEST = 5.0
"""The least bandwidth tried."""
WIDER = 2**0.25
"""Between bandwidths tried."""


class Widening(Search):
    """Takes ever more features of ever wider bands, alike along all axes, while the held-out residual falls.

    A remainder is smooth but for a point or two: it has no band of its own to be found with few features, and varies
    as fast along one axis as along the other. With the fewest features Newton starts from zero for each band, since
    the narrowest may lie near a solution of theirs alone.
    """

    window: ClassVar = 6
    compared: ClassVar = STEPS

    def run(self) -> tuple[Fit, str]:
        most = self.most // len(self.system.fields)
        count, best = min(START // len(self.system.fields), most), None
        found = self._swept(count, NARROWEST, WIDER**2, None)
        while found:
            best = found if best is None or found.score < best.score else best
            if self.done or count == most:
                return self._ended("coefficients")
            before, count = count, most if 3 * count > most else 2 * count
            found = self._swept(count, found.bandwidths[0] * math.sqrt(count / before), WIDER, found)
        if best is None:
            raise self.failure or SolveError("no bandwidth gave a finite solution")
        return self._ended("stagnation")

    def _swept(self, count: int, lowest: float, factor: float, start: Fit | None) -> Fit | None:
        """Return the best fit by so many features, of bands widened from the lowest on until the residual rises."""
        axes, best, worse, wide = len(self.system.problem.region.axes), None, 0, lowest
        while not self.done and worse < (1 if start else 2):
            found = self._fit((wide,) * axes, count, start and (best or start))
            if found is None or (best and found.score >= best.score):
                worse += 1
            else:
                best, worse = found, 0
            wide *= factor
        return best
