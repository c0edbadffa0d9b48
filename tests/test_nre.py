"""Likelihood-free solvers against a posterior in closed form, and what they promise beside it."""

from typing import ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

import sciml
from problems.inference.two_moons import TwoMoons
from sciml.inference.draws import Draws
from sciml.inference.priors import Prior
from sciml.problem import Variable
from sciml.solution import Posterior
from sciml.views.simulator import Simulator
from solvers.inference.nre import NRE
from solvers.inference.rejection_abc import RejectionABC


class LinearGaussian(Simulator):
    """x = A θ + ε, θ ~ N(0, I), ε ~ N(0, σ² I): the posterior is N(Σ Aᵀx/σ², Σ), Σ = (I + AᵀA/σ²)⁻¹."""

    parameters = (Variable("theta_1"), Variable("theta_2"))
    data = (Variable("x_1"), Variable("x_2"))
    matrix: ClassVar = np.array([[1.0, 0.5], [0.0, 1.0]])
    noise: ClassVar = 0.5

    def __init__(self) -> None:
        pass

    def prior(self) -> Prior:
        return Prior([Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)] * 2)

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return draw.normal(theta @ torch.from_numpy(self.matrix).to(theta).T, self.noise)

    def observed(self) -> np.ndarray:
        return np.array([1.0, -0.5])

    def exact(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        covariance = np.linalg.inv(np.eye(2) + self.matrix.T @ self.matrix / self.noise**2)
        return covariance @ self.matrix.T @ x / self.noise**2, covariance

    def reference(self) -> np.ndarray:
        return np.random.default_rng(0).multivariate_normal(*self.exact(self.observed()), size=2000)


OBSERVATIONS = np.array([[1.0, -0.5], [0.0, 0.0], [-1.5, 1.0]])
"""Within two deviations of what the prior predicts."""


def worst_errors(posterior: Posterior) -> tuple[float, float]:
    """Return the greatest errors of means, in deviations, and of covariances, in greatest variances."""
    problem = LinearGaussian()
    means, covariances = [], []
    for x in OBSERVATIONS:
        mean, covariance = problem.exact(x)
        samples = posterior.sample(4000, x, seed=3)
        means.append(np.abs((samples.mean(axis=0) - mean) / np.sqrt(np.diag(covariance))).max())
        covariances.append(np.abs(np.cov(samples.T) - covariance).max() / covariance.max())
    return max(means), max(covariances)


@pytest.fixture(scope="module")
def ratio() -> Posterior:
    solution = sciml.solve(LinearGaussian(), NRE(width=32, blocks=1, steps=2000), seed=0)
    assert isinstance(solution, Posterior)
    return solution


@pytest.fixture(scope="module")
def rejection() -> Posterior:
    solution = sciml.solve(LinearGaussian(), RejectionABC(simulations=300_000, kept=600), seed=0)
    assert isinstance(solution, Posterior)
    return solution


def test_nre_finds_the_gaussian_posterior_of_any_observation(ratio: Posterior) -> None:
    mean_error, covariance_error = worst_errors(ratio)
    assert mean_error < 0.12
    assert covariance_error < 0.15


@pytest.mark.parametrize(("loss", "steps", "wide"), [("contrastive", 1500, 1.0), ("balanced", 3000, 3.0)])
def test_other_losses_find_the_same_posterior(
    loss: Literal["contrastive", "balanced"], steps: int, wide: float
) -> None:
    solution = sciml.solve(LinearGaussian(), NRE(width=32, blocks=1, steps=steps, loss=loss), seed=0)
    assert isinstance(solution, Posterior)
    mean_error, covariance_error = worst_errors(solution)
    assert mean_error < 0.15 * wide
    assert covariance_error < 0.2 * wide


def test_a_balanced_ratio_is_no_surer_than_an_unbalanced_one() -> None:
    entropies = {}
    for loss in ("binary", "balanced"):
        solver = NRE(simulations=200, width=32, steps=400, loss=loss)
        posterior = sciml.solve(LinearGaussian(), solver, seed=0)
        assert isinstance(posterior, Posterior)
        samples = posterior.sample(100, OBSERVATIONS)
        densities = [posterior.log_prob(s, x) for s, x in zip(samples, OBSERVATIONS, strict=True)]
        entropies[loss] = -np.mean(densities)
    assert entropies["balanced"] > entropies["binary"]


def test_rejection_abc_finds_the_gaussian_posterior_of_any_observation(rejection: Posterior) -> None:
    mean_error, covariance_error = worst_errors(rejection)
    # 600 samples know a mean to 0.04 deviations and a variance to 0.06; the kernel, some 600^(-1/6) = 0.34
    # deviations wide, adds 0.12 to the variances.
    assert mean_error < 0.13
    assert covariance_error < 0.3


@pytest.mark.parametrize("name", ["ratio", "rejection"])
def test_a_posterior_reads_as_a_function_to_its_mean(name: str, request: pytest.FixtureRequest) -> None:
    posterior: Posterior = request.getfixturevalue(name)
    deviation = np.sqrt(np.diag(LinearGaussian().exact(OBSERVATIONS[0])[1]))
    for x, mean in zip(OBSERVATIONS, posterior(OBSERVATIONS), strict=True):
        np.testing.assert_allclose(mean, posterior.sample(4000, x).mean(axis=0), atol=0.08 * deviation.max())
    assert posterior(np.empty((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("name", ["ratio", "rejection"])
def test_samples_depend_on_the_seed_alone(name: str, request: pytest.FixtureRequest) -> None:
    posterior: Posterior = request.getfixturevalue(name)
    one, again, other = (posterior.sample(100, OBSERVATIONS[0], seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("name", "solver"), [("ratio", NRE(width=32, blocks=1)), ("rejection", RejectionABC(kept=600))]
)
def test_a_posterior_restores_from_its_state(
    name: str, solver: NRE | RejectionABC, request: pytest.FixtureRequest
) -> None:
    posterior: Posterior = request.getfixturevalue(name)
    again = solver.restore(LinearGaussian(), posterior.state)
    assert isinstance(again, Posterior)
    np.testing.assert_array_equal(again(OBSERVATIONS), posterior(OBSERVATIONS))
    np.testing.assert_array_equal(again.sample(50, OBSERVATIONS[2], 1), posterior.sample(50, OBSERVATIONS[2], 1))


def test_nre_simulates_as_often_as_it_says_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    simulate = LinearGaussian.simulate
    monkeypatch.setattr(
        LinearGaussian,
        "simulate",
        lambda self, theta, draw: calls.append(len(theta)) or simulate(self, theta, draw),
    )
    solver = NRE(simulations=3000, steps=3, width=8, blocks=1)
    posterior = sciml.solve(LinearGaussian(), solver, seed=0)
    assert sum(calls) == 3000 == posterior.notes["simulator_calls"]
    solver.restore(LinearGaussian(), posterior.state)
    assert sum(calls) == 3000


def test_the_same_seed_trains_the_same_network() -> None:
    solver = NRE(simulations=300, steps=5, width=8, blocks=1)
    one, again, other = (sciml.solve(LinearGaussian(), solver, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one(OBSERVATIONS), again(OBSERVATIONS))
    assert not np.array_equal(one(OBSERVATIONS), other(OBSERVATIONS))


def test_rejection_abc_keeps_the_nearest(rejection: Posterior) -> None:
    x, theta = rejection.state["x"], rejection.state["theta"]
    distance = np.linalg.norm((x - OBSERVATIONS[2]) / x.std(axis=0), axis=1)
    nearest = theta[np.argsort(distance)[:600]]
    np.testing.assert_allclose(rejection(OBSERVATIONS[2:])[0], nearest.mean(axis=0), rtol=1e-12)
    observed = np.linalg.norm((x - LinearGaussian().observed()) / x.std(axis=0), axis=1)
    assert rejection.notes["distance"] == pytest.approx(np.sort(observed)[599])
    assert rejection.notes["simulator_calls"] == 300_000


def test_more_simulations_bring_rejection_abc_nearer() -> None:
    budgets = RejectionABC.ladder["simulations"]
    assert len(budgets) >= 4
    assert list(budgets) == sorted(budgets)
    distances = [
        float(sciml.solve(TwoMoons(), RejectionABC(simulations=n), seed=0).notes["distance"]) for n in budgets[:3]
    ]
    # The nearest 100 of n points in the plane lie within a distance that falls as n^(-1/2).
    assert distances[1] / distances[2] == pytest.approx(10**0.5, rel=0.25)
    assert distances[0] > distances[1]


@pytest.mark.parametrize(
    "solver", [NRE(simulations=2000, steps=300, width=16, blocks=1), RejectionABC(simulations=500)]
)
def test_samples_stay_inside_the_prior(solver: NRE | RejectionABC) -> None:
    problem = TwoMoons(observation=7)  # a crescent that the prior's edge cuts
    posterior = sciml.solve(problem, solver, seed=0)
    assert isinstance(posterior, Posterior)
    samples = posterior.sample(2000, problem.observed())
    assert samples.shape == (2000, 2)
    assert (np.abs(samples) <= 1).all()


@pytest.mark.slow
def test_nre_reaches_the_published_accuracy_on_two_moons() -> None:
    problem = TwoMoons()
    assert problem.score(sciml.solve(problem, NRE(), seed=0))["c2st"] < 0.65
