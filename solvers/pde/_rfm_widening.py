"""The search for features of a remainder that singular parts leave over."""

import itertools
import math

from sciml.errors import SolveError

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
    as fast along one axis as along the other. Newton starts from zero for each number of features, since fits with
    fewer may lie near another solution of theirs alone.
    """

    def run(self) -> tuple[Fit, str]:
        most = self.most // len(self.system.fields)
        count, best = min(START // len(self.system.fields), most), None
        found = self._swept(count, NARROWEST, WIDER**2, warm=False)
        while found:
            best = found if best is None or found.score < best.score else best
            if self.done or count == most:
                return self._ended("coefficients")
            before, count = count, min(2 * count, most)
            found = self._swept(count, found.bandwidths[0] * math.sqrt(count / before), WIDER, warm=True)
        if best is None:
            raise self.failure or SolveError("no bandwidth gave a finite solution")
        return self._ended("stagnation")

    def _swept(self, count: int, lowest: float, factor: float, warm: bool) -> Fit | None:
        """Return the best fit by so many features, of bands widened from the lowest on until the residual rises."""
        axes, best, worse = len(self.system.problem.region.axes), None, 0
        for k in itertools.count():
            if self.done or worse == (1 if warm else 2):
                return best
            found = self._fit((lowest * factor**k,) * axes, count, best if warm else None)
            if found is None or (best and found.score >= best.score):
                worse += 1
            else:
                best, worse = found, 0
