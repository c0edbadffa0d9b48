"""Tasks of ours: their laws, and their stored posteriors by quadrature."""

from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from problems.inference.g_and_k import GAndK, GAndKLaw
from problems.inference.heat_source import SENSORS, TIMES, WIDTH, HeatSource
from problems.inference.jets import Jets
from sciml.inference.draws import RandomDraws
from sciml.references import reference_file

KINDS = [GAndK, HeatSource]
STORED = [*KINDS, Jets]
NODES = {"g_and_k": 17, "heat_source": 31, "jets": 41}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_laws(count: int) -> GAndKLaw:
    return GAndKLaw(*(column[:, None] for column in GAndK().prior().sample(count, generator()).T))


def test_the_law_is_inverted_wherever_its_density_is_not_negligible() -> None:
    law, z = some_laws(500), torch.linspace(-8, 8, 81, dtype=torch.float64)
    torch.testing.assert_close(law.normal(law.at(z)), z.expand(500, -1), rtol=0, atol=1e-10)
    unit = torch.special.ndtr(z[20:-20])
    torch.testing.assert_close(law.quantile(unit), law.at(z[20:-20]), rtol=1e-9, atol=1e-9)


def test_the_slope_of_the_law_is_its_derivative_and_positive() -> None:
    law, z = some_laws(500), torch.linspace(-30, 30, 601, dtype=torch.float64).expand(500, -1).clone().requires_grad_()
    (slope,) = torch.autograd.grad(law.at(z).sum(), z)
    torch.testing.assert_close(law.slope(z).detach(), slope)
    assert (slope > 0).all()


def test_the_density_of_the_law_has_mass_one() -> None:
    law, z = some_laws(50), torch.linspace(-9, 9, 4001, dtype=torch.float64)
    value = law.at(z).expand(50, -1)
    mass = torch.trapezoid(law.log_prob(value).exp(), value)  # by the value: at wide steps in the tails
    torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=2e-3)
    one, fine = GAndKLaw(*torch.tensor([[3.0], [1.0], [2.0], [0.5]]).double()), torch.linspace(-60, 500, 200_001)
    assert float(torch.trapezoid(one.log_prob(fine.double()).exp(), fine)) == pytest.approx(1, abs=1e-6)


def test_the_law_without_asymmetry_and_tails_is_normal() -> None:
    law, value = GAndKLaw(*torch.tensor([[3.0], [2.0], [0.0], [0.0]]).double()), torch.linspace(-30, 30, 200).double()
    torch.testing.assert_close(law.log_prob(value), torch.distributions.Normal(3.0, 2.0).log_prob(value).double())


def test_values_beyond_double_precision_have_no_density() -> None:
    law = GAndKLaw(*torch.tensor([[3.0], [2.0], [0.0], [0.0]]).double())
    assert law.log_prob(torch.tensor([-1e6, 1e6]).double()).tolist() == [-torch.inf, -torch.inf]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_the_likelihood_has_the_slope_that_differences_have(kind: Any) -> None:
    problem = kind()
    theta, x = problem.joint(20, generator(1))
    theta.requires_grad_()
    (slope,) = torch.autograd.grad(problem.log_likelihood(theta, x).sum(), theta)
    step = 1e-6 * problem.prior().moments[1]
    for k, one in enumerate(torch.diag(step)):
        up, down = (problem.log_likelihood(theta.detach() + sign * one, x) for sign in (1, -1))
        torch.testing.assert_close((up - down) / (2 * step[k]), slope[:, k], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_observations_were_simulated_at_their_true_parameters(kind: Any) -> None:
    problem = kind()
    theta, x = (torch.from_numpy(problem.stored(name)) for name in ("true_parameters", "observations"))
    own = problem.log_likelihood(theta, x)
    others = torch.stack([problem.log_likelihood(theta.roll(k, 0), x) for k in range(1, 10)])
    assert (own > others.mean(dim=0)).all()
    assert (own > others).double().mean() > 0.95


@pytest.mark.parametrize("kind", STORED, ids=lambda k: k.__name__)
def test_stored_posteriors_were_diagnosed(kind: Any) -> None:
    problem = kind()
    with h5py.File(reference_file(f"{problem.name}.h5", problem.checksum)) as file:
        quality = {name: np.asarray(values) for name, values in file["samples"].attrs.items() if name != "units"}
    assert (quality["effective_share"] > 0.1).all()
    assert (quality["distinct"] > 4500).all()
    assert (quality["r_hat"] < 1.05).all()
    assert (quality["quadrature_mean_difference"] < 0.15).all()


@pytest.mark.parametrize("kind", STORED, ids=lambda k: k.__name__)
def test_stored_posteriors_have_the_moments_of_quadrature(kind: Any) -> None:
    problem = kind(observation=2)
    prior, x = problem.prior(), torch.from_numpy(problem.observed())
    free = prior.unconstrain(torch.from_numpy(problem.reference()))
    mean, line = free.mean(dim=0), torch.linspace(-5, 5, NODES[problem.name], dtype=torch.float64)
    whole = mean + torch.cartesian_prod(*[line] * len(mean)) @ torch.linalg.cholesky(torch.cov(free.T)).T

    def log_density(points: Tensor) -> Tensor:
        return problem.log_likelihood(prior.constrain(points), x.expand(len(points), -1)) + prior.log_prob_free(points)

    weights = torch.softmax(torch.cat([log_density(part) for part in whole.split(4096)]), dim=0)
    centre = weights @ whole
    assert ((centre - mean).abs() < 0.1 * free.std(dim=0)).all()
    spread = (weights @ (whole - centre) ** 2).sqrt()
    assert ((spread / free.std(dim=0) - 1).abs() < 0.1).all()


def test_simulations_have_the_quantiles_of_the_law() -> None:
    theta = torch.tensor([[3.0, 1.0, 2.0, 0.5]], dtype=torch.float64).expand(2000, -1)
    x = GAndK().simulate(theta, RandomDraws(2000, generator())).flatten()
    z = torch.tensor([-1.5, -0.5, 0.0, 0.5, 1.5], dtype=torch.float64)
    below = (x[:, None] < GAndKLaw(*theta[0]).at(z)).double().mean(dim=0)
    unit = torch.special.ndtr(z)
    assert ((below - unit).abs() < 5 * (unit * (1 - unit) / len(x)).sqrt()).all()


def test_the_plate_cools_as_its_sine_series() -> None:
    theta = HeatSource().prior().sample(20, generator())
    line, waves = np.linspace(0, 1, 4001), np.pi * np.arange(1, 121)
    exact = np.ones((20, len(SENSORS), len(TIMES)))
    for axis in range(2):
        released = np.exp(-((line - theta[:, 1 + axis, None].numpy()) ** 2) / (2 * WIDTH**2))
        amplitudes = 2 * np.trapezoid(released[:, None] * np.sin(waves[:, None] * line), line)
        decay = np.exp(-(waves**2) * theta[:, :1, None].numpy() * np.array(TIMES)[:, None])
        exact *= np.einsum("sm,ntm,nm->nst", np.sin(waves * np.array(SENSORS)[:, axis, None]), decay, amplitudes)
    found = HeatSource().temperature(theta).numpy()
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-9 * exact.max())


@pytest.mark.parametrize("observation", range(1, 11))
def test_stored_sources_have_the_moments_of_the_midpoint_rule(observation: int) -> None:
    problem = HeatSource(observation=observation)
    prior, x, samples = problem.prior(), torch.from_numpy(problem.observed()), torch.from_numpy(problem.reference())
    low, high = samples.min(dim=0).values, samples.max(dim=0).values
    margin, edges = 0.15 * (high - low), torch.tensor([[0.005, 0.2, 0.2], [10.0, 0.8, 0.8]], dtype=torch.float64)
    low, high = torch.maximum(low - margin, edges[0]), torch.minimum(high + margin, edges[1])
    middles = (torch.arange(56, dtype=torch.float64) + 0.5) / 56
    grid = torch.cartesian_prod(*(a + (b - a) * middles for a, b in zip(low, high, strict=True)))
    logs = [problem.log_likelihood(part, x.expand(len(part), -1)) for part in grid.split(4096)]
    weights = torch.softmax(torch.cat(logs) + prior.log_prob(grid), dim=0)
    mean = weights @ grid
    deviation = (weights @ (grid - mean) ** 2).sqrt()
    assert ((samples.mean(dim=0) - mean).abs() < 0.07 * deviation).all()  # five errors of 5000 draws
    assert ((samples.std(dim=0) / deviation - 1).abs() < 0.07).all()
