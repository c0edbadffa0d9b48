"""A simulator read in several ways: draws by their laws, tapes, likelihoods, common random numbers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from problems.inference.gaussian_mixture import GaussianMixture
from problems.inference.lotka_volterra import LotkaVolterra
from problems.inference.sir import SIR
from problems.inference.slcp import SLCP
from problems.inference.slcp_distractors import SLCPDistractors
from problems.inference.two_moons import TwoMoons
from sciml.errors import UserError
from sciml.inference import laws
from sciml.inference.draws import CommonDraws, Draws, RandomDraws
from sciml.inference.laws import Law
from sciml.inference.tape import Tape, joint_ratio, layout, trace

COUNT = 4000
ROOT = torch.tensor([[1.0, 0.0], [0.5, 2.0]], dtype=torch.float64)
LAWS: dict[str, tuple[Law, Any]] = {
    "uniform": (laws.Uniform(-1.0, 3.0), stats.uniform(-1, 4)),
    "normal": (laws.Normal(2.0, 0.5), stats.norm(2, 0.5)),
    "log_normal": (laws.LogNormal(0.3, 0.5), stats.lognorm(0.5, scale=math.exp(0.3))),
    "bernoulli": (laws.Bernoulli(0.3), stats.bernoulli(0.3)),
    "categorical": (
        laws.Categorical(torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)),
        stats.rv_discrete(values=([0, 1, 2], [0.2, 0.5, 0.3])),
    ),
    "poisson": (laws.Poisson(3.5), stats.poisson(3.5)),
    "binomial": (laws.Binomial(12.0, 0.3), stats.binom(12, 0.3)),
    "exponential": (laws.Exponential(2.0), stats.expon(scale=0.5)),
    "gamma": (laws.Gamma(2.5, 2.0), stats.gamma(2.5, scale=0.5)),
}
DISCRETE = ("bernoulli", "categorical", "poisson", "binomial")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("source", ["random", "common"])
@pytest.mark.parametrize("name", LAWS)
def test_draws_follow_their_laws_and_say_their_density(name: str, source: str) -> None:
    law, known = LAWS[name]
    draws = RandomDraws(COUNT, generator()) if source == "random" else CommonDraws(COUNT, 0)
    drawn = draws.draw(law)
    assert drawn.shape == (COUNT,)
    values = drawn.double().numpy()
    if name not in DISCRETE:
        assert stats.kstest(values, known.cdf).pvalue > 1e-3
        expected = known.logpdf(values)
    else:
        seen, counts = np.unique(values, return_counts=True)
        share = known.pmf(seen)
        assert np.abs(counts / COUNT - share).max() < 4 * (0.25 / COUNT) ** 0.5
        expected = known.logpmf(values)
    np.testing.assert_allclose(law.log_prob(drawn).numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("source", ["random", "common"])
def test_multivariate_normal_draws_have_their_covariance_and_density(source: str) -> None:
    draws = RandomDraws(COUNT, generator()) if source == "random" else CommonDraws(COUNT, 0)
    drawn = draws.multivariate_normal(torch.ones(COUNT, 2, dtype=torch.float64), ROOT)
    np.testing.assert_allclose(np.cov(drawn.T.numpy()), ROOT @ ROOT.T, atol=0.4)
    known = torch.distributions.MultivariateNormal(torch.ones(2, dtype=torch.float64), ROOT @ ROOT.T)
    law = laws.MultivariateNormal(torch.ones(COUNT, 2, dtype=torch.float64), ROOT)
    torch.testing.assert_close(law.log_prob(drawn), known.log_prob(drawn))


def everything(theta: Tensor, draw: Draws) -> Tensor:
    """Return data that hang on a draw of each kind, one from the other."""
    a, b = theta.T
    count = draw.poisson(torch.exp(a))
    chance = torch.sigmoid(b + 0.1 * count)
    hits = draw.binomial(20.0, chance) + draw.bernoulli(chance)
    kind = draw.categorical(torch.stack([chance, 1 - chance], dim=1))
    wait = draw.exponential(torch.exp(b)) + draw.gamma(torch.exp(0.3 * a), 2.0)
    place = draw.multivariate_normal(torch.stack([a, b * kind], dim=1), ROOT)
    return torch.stack([hits, draw.log_normal(a * b + wait, 0.5), draw.normal(place.sum(1), torch.exp(a))], dim=1)


def test_the_joint_score_is_the_derivative_of_the_joint_log_probability() -> None:
    theta = torch.randn(50, 2, generator=generator(), dtype=torch.float64) * 0.5
    mined = trace(everything, theta, RandomDraws(50, generator(1)))
    step = 1e-5
    for k in range(2):
        shift = step * torch.eye(2, dtype=torch.float64)[k]
        by_difference = joint_ratio(everything, mined.values, theta + shift, theta - shift) / (2 * step)
        torch.testing.assert_close(mined.score[:, k], by_difference, rtol=1e-6, atol=1e-6)


def test_a_replayed_simulation_is_the_same_and_its_ratio_to_itself_is_one() -> None:
    theta = torch.randn(20, 2, generator=generator(), dtype=torch.float64) * 0.5
    mined = trace(everything, theta, RandomDraws(20, generator(1)))
    assert torch.equal(trace(everything, theta, mined.values).x, mined.x)
    assert torch.equal(joint_ratio(everything, mined.values, theta, theta), torch.zeros(20, dtype=torch.float64))


def test_the_joint_score_has_mean_zero_and_the_joint_ratio_mean_one() -> None:
    theta = torch.tensor([[0.2, -0.3]], dtype=torch.float64).expand(20_000, 2)
    mined = trace(everything, theta, RandomDraws(20_000, generator(1)))
    assert (mined.score.mean(dim=0).abs() < 5 * mined.score.std(dim=0) / 20_000**0.5).all()
    ratio = joint_ratio(everything, mined.values, theta + 0.05, theta).exp()
    assert ratio.mean() == pytest.approx(1, abs=5 * float(ratio.std()) / 20_000**0.5)


def test_simulators_without_latent_draws_are_their_own_likelihood() -> None:
    problem = SLCP()
    theta = problem.prior().sample(50, generator())
    mined = problem.mine(theta, generator(1))
    assert problem.tractable
    torch.testing.assert_close(problem.log_likelihood(theta, mined.x), mined.log_joint)
    mean = theta[:, None, :2].numpy()
    s, t, r = theta[:, 2].numpy() ** 2, theta[:, 3].numpy() ** 2, np.tanh(theta[:, 4].numpy())
    covariance = np.moveaxis(np.array([[s**2 + 1e-6, r * s * t], [r * s * t, t**2 + 1e-6]]), 2, 0)
    points = mined.x.reshape(-1, 4, 2).numpy()
    expected = [
        stats.multivariate_normal([0, 0], c).logpdf(p - m).sum()
        for p, m, c in zip(points, mean, covariance, strict=True)
    ]
    np.testing.assert_allclose(problem.log_likelihood(theta, mined.x), expected, rtol=1e-8)


def test_latent_draws_leave_no_layout() -> None:
    middle = torch.zeros(1, 2, dtype=torch.float64)
    assert layout(everything, middle) is None
    assert layout(lambda t, draw: 2 * draw.normal(t, 1.0), middle) is None
    assert layout(lambda t, draw: draw.normal(t, 1.0).flip(1), middle) is not None
    assert layout(lambda t, draw: draw.normal(t, 1.0)[:, :1], middle) is None


def test_data_that_depend_on_parameters_directly_have_no_joint_score() -> None:
    with pytest.raises(UserError, match="no joint density"):
        TwoMoons().mine(torch.zeros(5, 2, dtype=torch.float64), generator())


def test_the_likelihoods_of_slcp_with_and_without_distractors_differ_by_no_parameter() -> None:
    problem, plain = SLCPDistractors(observation=2), SLCP(observation=2)
    theta = plain.prior().sample(20, generator())
    x, y = (torch.from_numpy(p.observed()).expand(20, -1) for p in (problem, plain))
    torch.testing.assert_close(problem.log_likelihood(theta, x), plain.log_likelihood(theta, y))


@pytest.mark.parametrize("problem", [GaussianMixture(), TwoMoons()])
def test_likelihoods_in_closed_form_integrate_to_one_and_give_the_mass_of_simulations(
    problem: GaussianMixture | TwoMoons,
) -> None:
    theta = torch.tensor([[0.3, -0.4]], dtype=torch.float64)
    drawn = problem.simulate(theta.expand(200_000, 2), RandomDraws(200_000, generator()))
    low, high = drawn.min(dim=0).values - 0.1, drawn.max(dim=0).values + 0.1
    axes = [torch.linspace(float(a), float(b), 1001, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
    grid = torch.cartesian_prod(*axes)
    cell = float(torch.prod((high - low) / 1000))
    density = problem.log_likelihood(theta.expand(len(grid), 2), grid).exp()
    assert float(density.sum()) * cell == pytest.approx(1, abs=5e-3)
    edge = float(drawn[:, 0].median())
    assert float(density[grid[:, 0] < edge].sum()) * cell == pytest.approx(0.5, abs=1e-2)


def test_common_random_numbers_leave_a_difference_little_variance() -> None:
    def program(theta: Tensor, draw: Draws) -> Tensor:
        rate = torch.exp(theta[:, 0])
        return torch.stack([draw.poisson(rate), draw.gamma(rate, 1.0), draw.exponential(rate)], dim=1)

    theta = torch.zeros(5000, 1, dtype=torch.float64)
    one, other = (program(theta + shift, CommonDraws(5000, 3)) for shift in (0.0, 0.05))
    alone = program(theta + 0.05, CommonDraws(5000, 4))
    assert ((other - one).var(dim=0) < 0.1 * (alone - one).var(dim=0)).all()
    assert torch.equal(one, program(theta, CommonDraws(5000, 3)))


def test_reparametrised_draws_differentiate_through() -> None:
    theta = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)
    for draws in (CommonDraws(1, 0), RandomDraws(1, generator())):
        value = draws.exponential(theta)
        (slope,) = torch.autograd.grad(value.sum(), theta)
        assert float(slope) == pytest.approx(-float(value.detach()) / 0.4)


@pytest.mark.parametrize("problem", [LotkaVolterra(), SIR()])
def test_integrated_populations_agree_with_an_adaptive_solver(problem: LotkaVolterra | SIR) -> None:
    from scipy.integrate import solve_ivp

    theta = problem.prior().sample(40, generator(7))
    if isinstance(problem, SIR):
        found, times = problem.infected(theta)[:, :, None], np.arange(10) * 17.0
    else:
        found, times = problem.populations(theta), np.arange(10) * 2.1
    for k, values in enumerate(theta.tolist()):
        if isinstance(problem, SIR):
            b, c = values
            start = (1 - 1e-6, 1e-6)
            slope = lambda _, z, b=b, c=c: (-b * z[0] * z[1], b * z[0] * z[1] - c * z[1])  # noqa: E731
        else:
            a, b, c, d = values
            start = (30.0, 1.0)
            slope = lambda _, z, a=a, b=b, c=c, d=d: (a * z[0] - b * z[0] * z[1], d * z[0] * z[1] - c * z[1])  # noqa: E731
        exact = solve_ivp(slope, (0, times[-1]), start, "DOP853", times, rtol=1e-12, atol=1e-15).y.T
        exact = exact[:, 1:] if isinstance(problem, SIR) else exact
        np.testing.assert_allclose(found[k].numpy(), exact, rtol=1e-6)


def test_integration_differentiates_through() -> None:
    problem, theta = LotkaVolterra(), torch.tensor([[0.7, 0.1, 0.9, 0.1]], dtype=torch.float64)
    mined = problem.mine(theta, generator())
    step = 1e-6
    for k in range(4):
        shift = step * torch.eye(4, dtype=torch.float64)[k]
        rise = joint_ratio(problem.simulate, mined.values, theta + shift, theta - shift) / (2 * step)
        assert float(mined.score[0, k]) == pytest.approx(float(rise[0]), rel=1e-5)


def test_a_tape_counts_every_draw_once() -> None:
    tape = Tape(RandomDraws(3, generator()))
    draws = [tape.normal(0, 1), tape.normal(torch.zeros(3, 2, dtype=torch.float64), 1.0)]
    expected = stats.norm.logpdf(draws[0].numpy()) + stats.norm.logpdf(draws[1].numpy()).sum(1)
    np.testing.assert_allclose(torch.as_tensor(tape.log_prob), expected)
