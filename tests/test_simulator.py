"""The simulator view: draws, priors, the two-sample test, and two moons with its exact posterior."""

import math
import signal

import numpy as np
import pytest
import torch
from scipy.stats import kstest

import sciml
from problems.inference.two_moons import TwoMoons
from sciml.errors import SolveError, UserError
from sciml.inference.c2st import c2st
from sciml.inference.draws import Draws, RandomDraws
from sciml.inference.priors import Prior, box
from sciml.inference.resampling import effective_size, importance_resample
from sciml.references import reference_file
from sciml.solution import Solution
from solvers.inference.rejection_abc import RejectionABC
from solvers.trivial import Trivial


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_draws_follow_their_laws_and_shapes() -> None:
    draw = RandomDraws(4000, generator())
    assert kstest(draw.uniform(-1, 3), "uniform", (-1, 4)).pvalue > 1e-3
    assert kstest(draw.normal(2, 0.5), "norm", (2, 0.5)).pvalue > 1e-3
    means = torch.arange(4000.0).reshape(-1, 1) * torch.ones(1, 3)
    assert draw.normal(means, torch.ones(4000, 1)).sub(means).abs().max() < 6


def test_the_same_seed_draws_the_same_simulations() -> None:
    first, again, other = (TwoMoons().joint(50, generator(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])


def test_prior_stays_in_its_support_and_integrates_to_one() -> None:
    prior = box((-1, 2), (1, 5))
    samples = prior.sample(10_000, generator())
    assert prior.contains(samples).all()
    wide = torch.rand(200_000, 2, generator=generator(), dtype=torch.float64) * 10 - 3
    mass = torch.exp(prior.log_prob(wide)).mean() * 100
    assert mass == pytest.approx(1, abs=0.03)  # four standard errors of the Monte Carlo mean
    assert torch.isinf(prior.log_prob(torch.tensor([[0.0, 1.9]]))).all()


def test_prior_of_other_marginals() -> None:
    normal = torch.distributions.Normal(torch.tensor(1.0, dtype=torch.float64), 2.0)
    prior = Prior([normal, torch.distributions.LogNormal(torch.tensor(0.0, dtype=torch.float64), 0.5)])
    samples = prior.sample(4000, generator())
    assert kstest(samples[:, 0], "norm", (1, 2)).pvalue > 1e-3
    assert kstest(samples[:, 1].log(), "norm", (0, 0.5)).pvalue > 1e-3
    assert torch.isfinite(prior.quantile(torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64))).all()


def test_c2st_of_equal_apart_and_shifted_laws() -> None:
    random = np.random.default_rng(0)
    one, two = random.normal(size=(2, 1000, 2))
    same = c2st(one, two)
    assert same == pytest.approx(0.5, abs=0.04)
    assert c2st(one, two + 20) > 0.999
    # The best classifier of N(0, 1) and N(1, 1) is right with probability Φ(1/2) = 0.6915.
    assert c2st(one, two + np.array([1, 0])) == pytest.approx(0.6915, abs=0.04)
    assert c2st(one * 1024 + 5, two * 1024 + 5) == pytest.approx(same, abs=0.02)
    with pytest.raises(ValueError, match="shape"):
        c2st(one, two[:100])


def test_an_interrupted_c2st_gives_no_score() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    c2st(*np.random.default_rng(1).normal(size=(2, 50, 2)))  # imports done
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            c2st(*np.random.default_rng(0).normal(size=(2, 20_000, 2)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_resampling_repeats_none_and_finds_the_law() -> None:
    prior = box((-4,), (4,))
    samples = importance_resample(prior, lambda theta: -(theta[:, 0] ** 2) / 0.02, 2000, generator())
    assert len(samples.unique()) == 2000
    assert kstest(samples[:, 0], "norm", (0, 0.1)).pvalue > 1e-3


def test_resampling_stops_at_the_draws_allowed() -> None:
    prior = box((-4,), (4,))
    samples = importance_resample(prior, lambda theta: -(theta[:, 0] ** 2) / 2e-6, 1000, generator(), most=1000)
    assert samples.shape == (1000, 1)
    assert len(samples.unique()) < 20


def test_effective_size_counts_equal_weights() -> None:
    assert effective_size(torch.zeros(7)) == pytest.approx(7)
    assert effective_size(torch.tensor([0.0, 0.0, -1e3])) == pytest.approx(2)


SEEDS = (1000011, 1000001, 1000002, 1000003, 1000013, 1000005, 1000006, 1000007, 1000008, 1000009)
"""With which the benchmark drew its observations of two moons, in float32: the parameters, then the simulation."""


def test_published_observations_follow_from_their_published_seeds() -> None:
    published = TwoMoons().published("true_parameters"), TwoMoons().published("observations")
    for seed, theta, x in zip(SEEDS, *published, strict=True):
        source = generator(seed)
        drawn = 2 * torch.rand(1, 2, generator=source) - 1
        simulated = TwoMoons().simulate(drawn, RandomDraws(1, source, torch.float32))
        np.testing.assert_allclose(drawn[0], theta, atol=1e-6)
        np.testing.assert_allclose(simulated[0], x, atol=1e-6)


def test_reference_data_are_checked() -> None:
    with pytest.raises(UserError, match="expected sha256 0000, got"):
        reference_file("lfi_tasks.h5", "0000")
    with pytest.raises(UserError, match="found none"):
        reference_file("three_moons.h5", "0000")


def likelihood(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return p(x|θ) of two moons: noise of polar density N(r; 0.1, 0.01²) / (π r) on the right half disc."""
    first = x[0] - 0.25 + np.abs(theta.sum(axis=1)) / math.sqrt(2)
    second = x[1] - (theta[:, 1] - theta[:, 0]) / math.sqrt(2)
    radius = np.hypot(first, second)
    density = np.exp(-0.5 * ((radius - 0.1) / 0.01) ** 2) / (math.sqrt(2 * math.pi) * 0.01 * math.pi * radius)
    return np.where(first > 0, density, 0)


@pytest.mark.parametrize("observation", range(1, 11))
def test_exact_posterior_samples_agree_with_quadrature(observation: int) -> None:
    problem = TwoMoons(observation=observation)
    axis = (np.arange(1600) + 0.5) / 800 - 1
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    weights = likelihood(grid, problem.observed())
    weights /= weights.sum()
    samples, count = problem.reference(), 10_000
    assert samples.shape == (count, 2)
    assert (np.abs(samples) <= 1).all()
    mean = weights @ grid
    covariance = (grid - mean).T @ ((grid - mean) * weights[:, None])
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(samples.mean(axis=0), mean, atol=4 * deviation.max() / math.sqrt(count))
    np.testing.assert_allclose(np.cov(samples.T), covariance, atol=5 * deviation.max() ** 2 / math.sqrt(count))
    # The masses of cells of 1/8 by 1/8, by a chi-square statistic.
    cells = ((grid + 1) * 8).astype(int) @ [16, 1]
    expected = count * np.bincount(cells, weights, 256)
    found = np.bincount(((samples + 1) * 8).astype(int).clip(0, 15) @ [16, 1], minlength=256)
    busy = expected > 5
    assert found[expected == 0].sum() == 0
    statistic = ((found - expected)[busy] ** 2 / expected[busy]).sum()
    assert statistic < busy.sum() + 5 * math.sqrt(2 * busy.sum())


def test_exact_posterior_samples_agree_with_the_simulator() -> None:
    """Simulations that land near the observation have parameters spread like the reference."""
    problem = TwoMoons(samples=2000)
    theta, x = problem.joint(3_000_000, generator(5))
    near = theta[(x - torch.from_numpy(problem.observed())).norm(dim=1) < 0.01].numpy()
    reference = problem.reference()
    along = np.array([[1, 1], [-1, 1]]) / math.sqrt(2)
    for direction in along:
        assert kstest(near @ direction, reference @ direction).pvalue > 1e-3


def test_prior_is_told_apart_and_exact_samples_are_not() -> None:
    problem = TwoMoons(samples=200)
    trivial = sciml.solve(problem, Trivial(), seed=0)
    scores = problem.score(trivial)
    assert scores["c2st"] > 0.9
    assert scores["simulator_calls"] == 0
    np.testing.assert_allclose(trivial(np.zeros((2, 2))), 0)
    exact = TwoMoons(samples=1000).reference()
    assert c2st(exact[:500], exact[500:]) == pytest.approx(0.5, abs=0.07)


def test_solutions_that_cannot_be_sampled_are_refused() -> None:
    problem = TwoMoons(samples=100)
    with pytest.raises(UserError, match="expects a Posterior"):
        problem.score(Solution(problem, lambda x: x))


def test_observation_is_one_of_ten() -> None:
    with pytest.raises(UserError, match="observation should be less than or equal to 10, got 11"):
        TwoMoons(observation=11)


class Broken(TwoMoons):
    """Two moons whose simulator forgets its second datum, or breaks down for some parameters."""

    def __init__(self, finite: bool = True) -> None:
        super().__init__()
        self.finite = finite

    def simulate(self, theta: torch.Tensor, draw: Draws) -> torch.Tensor:
        x = super().simulate(theta, draw)
        return x[:, :1] if self.finite else torch.where(theta > 0, x, torch.nan)


def test_broken_simulators_are_reported() -> None:
    with pytest.raises(SolveError, match=r"shape \(10, 2\), got \(10, 1\)"):
        Broken().joint(10, generator())
    with pytest.raises(SolveError, match=r"at .* failed: it returned NaN or infinity"):
        Broken(finite=False).joint(10, generator())


def test_table_and_figure_hold_samples_and_reference() -> None:
    problem = TwoMoons(samples=500)
    solution = sciml.solve(problem, RejectionABC(), seed=0)
    table = problem.table(solution)
    assert set(table.arrays) == {"theta_1", "theta_1_reference", "theta_2", "theta_2_reference"}
    assert all(axes == ("sample",) and values.shape == (500,) for axes, values in table.arrays.values())
    np.testing.assert_array_equal(table.arrays["theta_2_reference"][1], problem.reference()[:, 1])
    names = dict(problem.figures(solution))
    assert list(names) == ["posterior", "predictive"]
    assert [len(a.lines) for a in names["posterior"].axes] == [0, 0, 2, 0]
