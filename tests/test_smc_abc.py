"""Sequential approximate Bayesian computation against exact posteriors."""

import numpy as np
import pytest
import torch

import sciml
from problems.inference.galton import Galton
from problems.inference.gaussian_linear import GaussianLinear
from sciml.errors import UserError
from sciml.solution import Posterior
from solvers.inference.smc_abc import SMCABC, adjusted

DEVIATION = 0.05**0.5
"""That of the posterior of gaussian_linear, N(x/2, 0.05 I)."""


def solve(simulations: int, adjusted: bool) -> Posterior:
    found = sciml.solve(GaussianLinear(), SMCABC(simulations, particles=1000, adjusted=adjusted), seed=0)
    assert isinstance(found, Posterior)
    return found


@pytest.fixture(scope="module")
def posterior() -> Posterior:
    return solve(400_000, adjusted=True)


def test_adjusted_particles_have_the_moments_of_the_exact_posterior(posterior: Posterior) -> None:
    theta, exact = posterior.state["theta"], GaussianLinear().observed() / 2
    # The tolerance is as large as the observation is far off: regression extrapolates, and means are less well known.
    assert np.abs((theta.mean(axis=0) - exact) / DEVIATION).max() < 0.35
    assert np.abs(theta.std(axis=0) / DEVIATION - 1).max() < 0.15
    np.testing.assert_allclose(np.corrcoef(theta.T), np.eye(10), atol=0.2)


def test_the_tolerance_falls_and_the_posterior_with_it() -> None:
    coarse, fine = solve(5_000, adjusted=False), solve(400_000, adjusted=False)
    assert float(fine.notes["tolerance"]) < float(coarse.notes["tolerance"])
    wide, narrow = (p.state["theta"].std(axis=0).mean() / DEVIATION for p in (coarse, fine))
    assert 1 < narrow < wide - 0.05


def test_no_more_simulations_are_made_than_are_allowed(posterior: Posterior) -> None:
    assert 200_000 < float(posterior.notes["simulator_calls"]) <= 400_000


def test_where_no_distance_is_left_the_posterior_is_exact() -> None:
    problem = Galton(samples=2000)
    found = sciml.solve(problem, SMCABC(100_000, particles=1000), seed=0)
    assert found.notes["tolerance"] == 0
    theta, reference = found.state["theta"], problem.reference()
    assert abs(theta.mean() - reference.mean()) < 0.15 * reference.std()
    assert theta.std() == pytest.approx(reference.std(), rel=0.15)


def test_regression_takes_out_what_is_linear_in_the_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    apart = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    rest = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    design = torch.cat([torch.ones(200, 1), apart], dim=1)
    rest = rest - design @ torch.linalg.lstsq(design, rest).solution
    slopes = torch.tensor([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(adjusted(rest + apart @ slopes, apart, torch.ones(200).double()), rest)


def test_another_observation_is_answered_by_a_run_of_its_own(posterior: Posterior) -> None:
    x = GaussianLinear(observation=2).observed()
    (mean,) = posterior(x[None])
    assert np.abs((mean - x / 2) / DEVIATION).max() < 0.35


def test_fewer_simulations_than_particles_are_refused() -> None:
    with pytest.raises(UserError, match="as many simulations as particles, got 50 for 100"):
        SMCABC(simulations=50)
