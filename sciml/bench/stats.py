"""Honest summaries of a few errors: geometric means with t-intervals, and ties."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FLOOR = float(np.finfo(np.float64).eps)
"""Errors below rounding cannot be told apart; each counts as this."""


@dataclass(frozen=True)
class Estimate:
    """A geometric mean and the interval that holds the true one in 95 % of benchmarks.

    Args:
        mean: the geometric mean; infinite as soon as one run failed.
        low: lower end of the interval.
        high: upper end of the interval.
        count: number of runs behind it.
    """

    mean: float
    low: float
    high: float
    count: int

    @property
    def bounded(self) -> bool:
        """Whether the scatter is known, so that there is an interval to judge by."""
        return math.isfinite(self.high)

    def overlaps(self, other: "Estimate") -> bool:
        """Return whether the intervals share a point, so that neither mean is shown to be smaller.

        One without an interval counts as its mean, lest what is not known ties with everything.
        """
        low, high = (self.low, self.high) if self.bounded else (self.mean, self.mean)
        other_low, other_high = (other.low, other.high) if other.bounded else (other.mean, other.mean)
        return low <= other_high and other_low <= high


def geometric_mean(errors: Sequence[float], exact: bool = False, confidence: float = 0.95) -> Estimate:
    """Estimate the geometric mean of errors by Student's t-interval on their logarithms.

    log10 ε̄ = mean(log10 εₖ),  log10 ε̄ ± t(n-1) s / √n

    An error that is infinite or NaN is a failed run: the mean and both ends are infinite. One random run says
    nothing of its scatter: its interval is (0, ∞). Where the logarithms are normal the interval covers at its
    nominal rate, at any number of runs.

    Source: Student, "The probable error of a mean", Biometrika 6, 1908.

    Args:
        errors: one error per run, not negative; values below ``FLOOR`` count as ``FLOOR``.
        exact: whether every run gives the same number, so that one stands for all: a point.
        confidence: the nominal coverage.

    Raises:
        ValueError: no errors, or a negative one.
    """
    values = np.asarray(errors, dtype=float)
    count = len(values)
    if count == 0 or (values < 0).any():
        raise ValueError(f"expected at least one error, none negative; got {list(errors)}")
    if not np.isfinite(values).all():
        return Estimate(math.inf, math.inf, math.inf, count)
    logs = np.log10(np.maximum(values, FLOOR))
    mean = float(10 ** logs.mean())
    if count == 1:
        return Estimate(mean, mean, mean, 1) if exact else Estimate(mean, 0.0, math.inf, 1)
    from scipy.stats import t

    half = float(t.ppf((1 + confidence) / 2, count - 1) * logs.std(ddof=1) / math.sqrt(count))
    return Estimate(mean, _power(logs.mean() - half), _power(logs.mean() + half), count)


def leaders(estimates: Sequence[Estimate]) -> list[int]:
    """Return the positions of the smallest mean and of all that tie with it; none where all are infinite."""
    finite = [i for i, e in enumerate(estimates) if math.isfinite(e.mean)]
    if not finite:
        return []
    best = min(finite, key=lambda i: estimates[i].mean)
    return [i for i in finite if i == best or estimates[i].overlaps(estimates[best])]


def _power(exponent: float) -> float:
    return 10**exponent if exponent < 308 else math.inf
