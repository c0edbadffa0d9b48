"""Geometric means, their intervals and ties, against known values and by simulation."""

import math

import numpy as np
import pytest

from sciml.bench.stats import FLOOR, Estimate, geometric_mean, leaders


def test_known_values():
    estimate = geometric_mean([1e-2, 1e-3, 1e-4])
    # t(0.975, 2) = 4.30265; the logarithms have mean -3 and standard deviation 1.
    half = 4.302652729911275 / math.sqrt(3)
    assert estimate.mean == pytest.approx(1e-3, rel=1e-12)
    assert estimate.low == pytest.approx(10 ** (-3 - half), rel=1e-9)
    assert estimate.high == pytest.approx(10 ** (-3 + half), rel=1e-9)
    assert estimate.count == 3


@pytest.mark.parametrize("count", [3, 5, 10])
def test_interval_covers_at_its_nominal_rate(count):
    generator = np.random.default_rng(count)
    trials = 4000
    covered = 0
    for _ in range(trials):
        estimate = geometric_mean(10 ** generator.normal(-4, 0.7, count))
        covered += estimate.low <= 1e-4 <= estimate.high
    # Four standard deviations of a binomial share around 0.95.
    assert covered / trials == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / trials))


def test_scaling_errors_scales_the_estimate():
    errors = np.array([3e-3, 8e-4, 2e-3, 1e-3])
    one, thousand = geometric_mean(errors), geometric_mean(1000 * errors)
    assert thousand.low == pytest.approx(1000 * one.low)
    assert thousand.mean == pytest.approx(1000 * one.mean)
    assert thousand.high == pytest.approx(1000 * one.high)


@pytest.mark.parametrize("failed", [math.inf, math.nan])
def test_one_failed_run_makes_the_mean_infinite(failed):
    estimate = geometric_mean([1e-6, failed, 1e-6])
    assert estimate.mean == estimate.low == estimate.high == math.inf


def test_errors_below_rounding_count_as_rounding():
    zeros = geometric_mean([0.0, 1e-30, 0.0])
    assert [zeros.low, zeros.mean, zeros.high] == pytest.approx([FLOOR] * 3, rel=1e-9)
    assert geometric_mean([0.0], exact=True).mean == pytest.approx(FLOOR)


def test_one_run_has_an_interval_only_where_it_stands_for_all():
    assert (geometric_mean([1e-3]).low, geometric_mean([1e-3]).high) == (0, math.inf)
    exact = geometric_mean([1e-3], exact=True)
    assert exact.low == exact.mean == exact.high


def test_wildly_scattered_errors_do_not_overflow():
    estimate = geometric_mean([1e-15, 1e15])
    assert estimate.mean == pytest.approx(1)
    assert estimate.high > 1e100
    assert geometric_mean([1e-300, 1e300]).high == math.inf


@pytest.mark.parametrize("errors", [[], [1e-3, -1e-3]])
def test_no_error_and_negative_errors_are_refused(errors):
    with pytest.raises(ValueError, match="at least one error"):
        geometric_mean(errors)


def test_overlapping_intervals_are_a_tie():
    best, near, far = Estimate(1e-5, 1e-6, 1e-4, 3), Estimate(1e-3, 1e-4, 1e-2, 3), Estimate(1, 0.5, 2, 3)
    failed = Estimate(math.inf, math.inf, math.inf, 3)
    assert leaders([far, near, best, failed]) == [1, 2]
    assert leaders([far, best]) == [1]
    assert leaders([failed, failed]) == []
    assert leaders([failed, far]) == [1]


def test_ties_are_those_with_the_best_alone():
    """Three intervals in a chain: the last overlaps the second, not the best."""
    chain = [Estimate(1, 0.5, 2, 3), Estimate(3, 1.5, 5, 3), Estimate(7, 4, 9, 3)]
    assert leaders(chain) == [0, 1]


def test_an_estimate_without_an_interval_counts_as_its_mean():
    one, best = Estimate(1e-3, 0, math.inf, 1), Estimate(1e-9, 1e-9, 1e-9, 1)
    assert not one.bounded
    assert leaders([one, best]) == [1]
    assert leaders([one, Estimate(5e-4, 1e-4, 2e-3, 3)]) == [0, 1]
