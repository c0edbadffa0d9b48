"""The search for bandwidths and for the number of features, by residuals at points held out."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from sciml.errors import SolveError

from ._features import Features
from ._rfm_newton import STEPS, GaussNewton
from ._rfm_scales import data_bandwidths
from ._rfm_system import Expansion, Group, System

LOWEST, HIGHEST = 2.5, 160.0
"""The range of bandwidths tried at first, times half the domain's extent; where data vary faster it starts there."""
SPARE = 1.3
"""Features at first for each function that the lowest bandwidths can tell apart."""
FACTOR = {1: 2.0, 2: 2.0, 3: 3.0}
"""Between bandwidths tried at first, by the number of axes; with more, one axis after the other is tried by fours."""
FEW = 256
"""Coefficients with which bandwidths are compared at first."""
FEWEST = 32
"""Features of a field at the least."""
SIGNAL = 0.1
"""A relative residual below this shows that some bandwidths fit better than others."""
RAPID = 0.01
"""A gain that needs no wider bands."""
MARGIN = 3.0
"""By how much more than the tolerance the last step is to gain."""
HOPELESS = 2.0
"""An impatient search ends where more features than this times the limit are wanted."""
HELD_OUT = 400
"""Points held out are as many as training takes for so many features."""
NEAR = 0.5
"""Newton starts from fits with a residual below this."""
LOOSE = 1e-4
"""Tolerances for which normal equations, which lose half the digits, will do."""
COMPARED = 4
"""Newton steps from the best fit so far; the next fit goes on from there."""


@dataclass(frozen=True)
class Fit:
    """A least squares solution and how well it holds where it was not trained.

    Args:
        expansion: the solution.
        bandwidths: of its features, by axis.
        misfits: relative residuals of the terms at points held out; of measurements, at their points.
        observed: the terms that are measurements.
        steps: of Gauss-Newton.
    """

    expansion: Expansion
    bandwidths: tuple[float, ...]
    misfits: Mapping[str, float]
    observed: frozenset[str]
    steps: int

    @property
    def held_out(self) -> float:
        """The greatest relative residual of equations and conditions."""
        return max(v for name, v in self.misfits.items() if name not in self.observed)

    @property
    def data_misfit(self) -> float | None:
        """The greatest relative residual of measurements, where there are any."""
        return max((v for name, v in self.misfits.items() if name in self.observed), default=None)

    @cached_property
    def score(self) -> float:
        """The root mean square of all relative residuals."""
        score = math.sqrt(sum(v * v for v in self.misfits.values()) / len(self.misfits))
        return score if math.isfinite(score) else math.inf


class Search:
    """Finds bandwidths with few features, then takes more features until a tolerance holds.

    Args:
        system: the problem.
        tolerance: of the relative residual at points held out.
        seed: the source of randomness.
        most: the most coefficients.
        report: told of each fit, or of None where one failed; returns why to stop, or None.
        patient: whether to go on where the gains so far show that the tolerance is out of reach.
    """

    window: ClassVar = 1
    """Steps back to which Newton's line search compares."""
    compared: ClassVar = COMPARED
    """Newton steps from another fit at most."""

    def __init__(
        self,
        system: System,
        tolerance: float,
        seed: int,
        most: int,
        report: Callable[[Fit | None], str | None],
        patient: bool,
    ) -> None:
        self.system, self.tolerance, self.seed, self.most, self._report = system, tolerance, seed, most, report
        self.patient = patient
        self.held = system.sample(HELD_OUT, seed + 1)
        self.best: Fit | None = None
        self.failure: SolveError | None = None
        self.stopped: str | None = None
        self.fits = 0
        self._groups: dict[int, list[Group]] = {}
        self._made: dict[tuple[int, tuple[float, ...]], Fit | None] = {}

    def run(self) -> tuple[Fit, str]:
        """Return the best fit and why the search ended.

        Raises:
            SolveError: no fit was found, whatever the bandwidths.
        """
        fields = len(self.system.fields)
        count = max(FEW // fields, FEWEST, math.ceil(SPARE * _dimension(self.lowest)))
        count = min(count, self.most // fields)
        best = self._coarse(count, 0.0, None)
        while not self.done and (best is None or best.held_out > SIGNAL):
            if not (self.patient and self.system.is_linear) or 8 * count * fields > self.most:
                break
            count *= 2
            best = self._coarse(count, count / 4, best)
        if best is None:
            raise self.failure or SolveError("no bandwidth gave a finite solution")
        if best.held_out > SIGNAL and not self.patient:
            return self._ended("stagnation")
        best, before, stale = self._refined(best, count), best, 0
        while not self.done and stale < 2:
            wanted, most = self._wanted(before, best), self.most // fields
            if wanted > HOPELESS * most and not self.patient:
                return self._ended("stagnation")
            count = len(best.expansion.features)
            least = math.ceil(1.1 * count)
            if least > most:
                return self._ended("coefficients")
            before, best = best, self._more(best, int(min(max(wanted, least), 2 * count, most)))
            stale = stale + 1 if best.score > 0.7 * before.score else 0
        return self._ended("stagnation")

    @cached_property
    def lowest(self) -> tuple[float, ...]:
        """The least bandwidths that the data allow."""
        return tuple(min(max(LOWEST, b), HIGHEST) for b in data_bandwidths(self.system, self.held))

    def deviations(self, fit: Fit) -> np.ndarray:
        """Return the standard deviations of the numbers that are sought."""
        features = fit.expansion.features
        return GaussNewton(self.system, self._groups[len(features)], features).deviations(fit.expansion)

    @property
    def done(self) -> bool:
        return self.stopped is not None or (self.best is not None and self.met(self.best))

    def met(self, fit: Fit) -> bool:
        """Return whether the tolerance holds, for measurements too."""
        return max(fit.held_out, fit.data_misfit or 0.0) <= self.tolerance

    def _ended(self, reason: str) -> tuple[Fit, str]:
        assert self.best is not None
        return self.best, "tolerance" if self.met(self.best) else self.stopped or reason

    def _coarse(self, count: int, least: float, best: Fit | None) -> Fit | None:
        """Return the best fit over a grid of bandwidths, the lowest first.

        Args:
            count: the number of features.
            least: the dimension below which so many features hold no more than half of them did.
            best: the best fit so far.
        """
        axes = len(self.system.problem.region.axes)
        factor = FACTOR.get(axes, 4.0)
        lines = [
            [low * factor**k for k in range(1 + math.ceil(math.log(HIGHEST / low, factor)))] for low in self.lowest
        ]
        if axes in FACTOR:
            grid = (b for b in itertools.product(*lines) if least <= _dimension(b) <= 2 * count)
            return self._of(sorted(grid, key=lambda b: (math.prod(b), b)), count, best)
        best = self._of([self.lowest], count, best)
        for axis, line in enumerate(lines):
            at = best.bandwidths if best else self.lowest
            best = self._of([(*at[:axis], b, *at[axis + 1 :]) for b in line[1:]], count, best)
        return best

    def _of(self, candidates: Iterable[tuple[float, ...]], count: int, best: Fit | None) -> Fit | None:
        for bandwidths in candidates:
            if self.done:
                break
            found = self._fit(bandwidths, count, best)
            if found and (best is None or found.score < 0.9 * best.score):
                best = found
        return best

    def _refined(self, best: Fit, count: int) -> Fit:
        """Return the best fit by changes of one bandwidth at a time; bands too narrow need great coefficients."""
        for factor in (2**0.5, 2**0.25):
            improved = True
            while improved and not self.done:
                improved = False
                for axis, change in itertools.product(range(len(best.bandwidths)), (factor, 1 / factor)):
                    if self.done:
                        break
                    if best.bandwidths[axis] * change < LOWEST:
                        continue
                    bandwidths = tuple(b * change if k == axis else b for k, b in enumerate(best.bandwidths))
                    found = self._fit(bandwidths, count, best)
                    if found and found.score < 0.8 * best.score:
                        best, improved = found, True
        return best

    def _more(self, before: Fit, count: int) -> Fit:
        """Return a fit with more features, of wider bands too where more features alone gain little."""
        best = before
        same = (count / len(before.expansion.features)) ** (1 / len(before.bandwidths))
        for growth in (1.0, same, 1.2 * same):
            if self.done or best.score < RAPID * before.score:
                break
            found = self._fit(tuple(b * growth for b in before.bandwidths), count, before)
            if found and found.score < best.score:
                best = found
            elif growth >= same:
                break
        return best

    def _wanted(self, before: Fit, best: Fit) -> float:
        """Return the number of features that suffices if the last gain goes on, at first twice as many."""
        count, earlier = len(best.expansion.features), len(before.expansion.features)
        if earlier >= count:
            return 2.0 * count
        if best.score >= before.score:
            return math.inf
        rate = math.log(before.score / best.score) / math.log(count / earlier)
        missing = math.log(MARGIN * max(best.held_out, best.data_misfit or 0.0) / self.tolerance)
        return count * math.exp(min(missing / rate, 100.0))

    def _fit(self, bandwidths: tuple[float, ...], count: int, start: Fit | None) -> Fit | None:
        """Return a fit, or None where Newton broke down."""
        key = count, tuple(round(b, 9) for b in bandwidths)
        if key not in self._made:
            self._made[key] = found = self._new(bandwidths, count, start)
            self.fits += 1
            if found and math.isfinite(found.score) and (self.best is None or found.score < self.best.score):
                self.best = found
            self.stopped = self._report(found)
        return self._made[key]

    def _new(self, bandwidths: tuple[float, ...], count: int, start: Fit | None) -> Fit | None:
        system = self.system
        generator = np.random.default_rng(self.seed)
        features = Features.draw(system.problem.region.bounds, count, bandwidths, generator, system.periodic)
        if count not in self._groups:
            self._groups[count] = system.sample(count, self.seed)
        method = GaussNewton(system, self._groups[count], features, self.tolerance >= LOOSE, self.window)
        near = start if start and start.score < NEAR else None
        try:
            with np.errstate(all="ignore"):
                found, taken = method.run(near and near.expansion, self.compared if near else STEPS)
        except (SolveError, np.linalg.LinAlgError) as error:
            self.failure = error if isinstance(error, SolveError) else SolveError(f"least squares failed: {error}")
            return None
        return Fit(found, bandwidths, system.misfits(found, self.held), self._observed, taken)

    @cached_property
    def _observed(self) -> frozenset[str]:
        return frozenset(s.term.name for s in self.system.statements if s.observed)


def _dimension(bandwidths: Iterable[float]) -> float:
    """Return about how many functions of given bandwidths a box can tell apart."""
    return math.prod(2 * b / math.pi + 2 for b in bandwidths)
