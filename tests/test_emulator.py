"""Posteriors by likelihoods taken for normal, emulated or from repeated simulations, against exact ones."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

import sciml
from problems.inference.two_moons import TwoMoons
from sciml.errors import UserError
from sciml.inference.draws import Draws
from sciml.inference.emulator import Emulator
from sciml.inference.priors import Prior
from sciml.problem import Variable
from sciml.solution import Posterior
from sciml.solver import Solver
from sciml.views.simulator import Simulator
from solvers.inference.auto import Auto
from solvers.inference.gp_emulator import GPEmulator
from solvers.inference.synthetic_likelihood import SyntheticLikelihood, synthetic


class Bent(Simulator):
    """x_k = g_k(θ) + noise, of which g is bent and the noise grows with the first parameter."""

    parameters = (Variable("theta_1"), Variable("theta_2"))
    data = tuple(Variable(f"x_{k}") for k in range(1, 4))
    truth: ClassVar = (0.7, -0.4)

    def __init__(self) -> None:
        pass

    def prior(self) -> Prior:
        return Prior([Normal(torch.zeros((), dtype=torch.float64), 1.0)] * 2)

    def mean(self, theta: Tensor) -> Tensor:
        a, b = theta.T
        return torch.stack([a + 0.3 * b**2, torch.sin(a) + b, a * b], dim=1)

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return draw.normal(self.mean(theta), 0.2 * torch.exp(0.5 * theta[:, :1]).expand(-1, 3))

    def observed(self) -> np.ndarray:
        return self.mean(torch.tensor([self.truth], dtype=torch.float64))[0].numpy()

    def reference(self) -> np.ndarray:
        """Resample a fine grid by the exact posterior."""
        line = torch.linspace(-4, 4, 801, dtype=torch.float64)
        grid = torch.cartesian_prod(line, line)
        x = torch.from_numpy(self.observed()).expand(len(grid), -1)
        weights = torch.softmax(self.log_likelihood(grid, x) + self.prior().log_prob(grid), dim=0)
        return grid[torch.multinomial(weights, 4000, True, generator=torch.Generator().manual_seed(0))].numpy()


def posterior(solver: Solver, problem: Simulator) -> Posterior:
    found = sciml.solve(problem, solver, seed=0)
    assert isinstance(found, Posterior)
    return found


@pytest.fixture(scope="module")
def emulated() -> Posterior:
    return posterior(GPEmulator(simulations=800, particles=2000), Bent())


def test_an_emulated_posterior_has_the_moments_of_the_exact_one(emulated: Posterior) -> None:
    samples, reference = emulated.sample(2000, Bent().observed()), Bent().reference()
    deviation = reference.std(axis=0)
    assert np.abs((samples.mean(axis=0) - reference.mean(axis=0)) / deviation).max() < 0.2
    assert np.abs(samples.std(axis=0) / deviation - 1).max() < 0.2


def test_its_density_is_that_of_its_samples_and_of_the_exact_posterior(emulated: Posterior) -> None:
    problem, theta = Bent(), Bent().reference()[:500]
    x = torch.from_numpy(problem.observed()).expand(len(theta), -1)
    exact = problem.prior().log_prob(torch.from_numpy(theta)) + problem.log_likelihood(torch.from_numpy(theta), x)
    difference = emulated.log_prob(theta, problem.observed()) - exact.numpy()
    away = np.abs(difference - np.median(difference))
    assert np.median(away) < 0.2
    assert np.quantile(away, 0.9) < 1.0  # in the tails the emulator knows less


def test_later_rounds_are_nearer_to_the_posterior() -> None:
    seen: list[Tensor] = []

    class Seen(Bent):
        def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
            seen.append(theta)
            return super().simulate(theta, draw)

    found = posterior(GPEmulator(simulations=400, rounds=4, particles=200), Seen())
    assert found.notes["simulator_calls"] == 400
    spread = [part.std(dim=0).mean() for part in seen if len(part) >= 100]
    assert spread[-1] < spread[0] / 2


def test_the_emulator_knows_what_it_does_not_know_and_how_noise_depends_on_parameters() -> None:
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(600, 1, generator=generator, dtype=torch.float64)
    x = torch.sin(2 * u) + 0.1 * torch.exp(u) * torch.randn(600, 1, generator=generator, dtype=torch.float64)
    emulator = Emulator(1, 1)
    emulator.fit(u, x, u, generator)
    for at in (-1.0, 0.0, 1.0):
        point = torch.full((300, 1), at, dtype=torch.float64)
        line = torch.linspace(-3, 3, 300, dtype=torch.float64)[:, None]
        weights = torch.softmax(emulator(point, line), dim=0)
        mean = float((weights * line[:, 0]).sum())
        deviation = float((weights * (line[:, 0] - mean) ** 2).sum().sqrt())
        assert mean == pytest.approx(np.sin(2 * at), abs=0.1)
        assert deviation == pytest.approx(0.1 * np.exp(at), rel=0.4)


def test_a_synthetic_likelihood_is_normal_with_the_moments_of_the_simulations() -> None:
    generator = torch.Generator().manual_seed(0)
    factor = torch.tensor([[1.0, 0.0], [0.6, 0.5]], dtype=torch.float64)
    z = torch.randn(20_000, 2, generator=generator, dtype=torch.float64) @ factor.T
    found = float(synthetic(z, torch.tensor([0.5, -0.2], dtype=torch.float64)))
    exact = MultivariateNormal(torch.zeros(2).double(), scale_tril=factor).log_prob(torch.tensor([0.5, -0.2]).double())
    assert found == pytest.approx(float(exact), abs=0.05)


def test_fewer_repeats_than_data_will_do() -> None:
    z = torch.randn(5, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert synthetic(z, z[0]) > synthetic(z, z[0] + 10)


def test_a_failed_simulation_makes_a_parameter_impossible() -> None:
    z = torch.tensor([[0.0, 1.0], [torch.nan, 0.0], [1.0, 0.0]], dtype=torch.float64)
    assert synthetic(z, z[0]) == -torch.inf


def test_the_posterior_of_a_synthetic_likelihood_is_near_the_exact_one() -> None:
    found = posterior(SyntheticLikelihood(simulations=60_000, particles=60, repeats=20), Bent())
    assert found.notes["temperature"] == 1
    assert float(found.notes["simulator_calls"]) <= 60_000
    theta, reference = found.state["theta"], Bent().reference()
    assert np.abs((theta.mean(axis=0) - reference.mean(axis=0)) / reference.std(axis=0)).max() < 0.5


def test_where_the_data_are_normal_auto_answers_by_the_emulator() -> None:
    found = posterior(Auto(simulations=600, members=2, flow="linear", width=16, steps=200), Bent())
    notes = found.notes
    assert notes["answer"] == "emulator"
    assert min(float(notes["normality_p"]), float(notes["constancy_p"])) > 1e-6
    assert notes["simulator_calls"] == 600
    assert notes["stop_reason"] == "answered"
    samples, reference = found.sample(2000, Bent().observed()), Bent().reference()
    assert np.abs((samples.mean(axis=0) - reference.mean(axis=0)) / reference.std(axis=0)).max() < 0.2


def test_where_they_are_not_auto_answers_by_flows() -> None:
    found = posterior(Auto(simulations=600, members=1, flow="linear", width=16, steps=20), TwoMoons())
    notes = found.notes
    assert notes["answer"] == "flows"
    assert notes["simulator_calls"] == 600
    assert float(notes["normality_p"]) < 1e-6


def test_too_few_simulations_are_refused() -> None:
    with pytest.raises(UserError, match="at least 50 simulations a round, got 100 for 4"):
        GPEmulator(simulations=100)
    with pytest.raises(UserError, match="50 particles x 20 repeats, got 500"):
        SyntheticLikelihood(simulations=500)
