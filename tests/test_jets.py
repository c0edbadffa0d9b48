"""The parton shower: its kinematics, and its density summed over histories."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from problems.inference._shower import CUT, GENERATIONS, LEAVES, MASS, MOMENTUM, TruncatedExponential, square
from problems.inference.jets import Jets
from sciml.inference.tape import trace


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def partons(x: Tensor) -> Tensor:
    return x.unflatten(1, (LEAVES, 4))


@pytest.fixture(scope="module")
def jets() -> tuple[Tensor, Tensor]:
    return Jets().joint(2000, generator())


def test_the_law_of_masses_is_exponential_below_its_bound() -> None:
    rate, high = torch.tensor([[0.7], [6.0]]).double(), torch.tensor([[1.0], [0.2]]).double()
    law, unit = TruncatedExponential(rate, high), torch.linspace(0, 1, 20_001, dtype=torch.float64).expand(2, -1)
    value = law.quantile(unit)
    torch.testing.assert_close(value[:, -1:], high)
    cumulated = torch.cumulative_trapezoid(law.log_prob(value).exp(), value)
    torch.testing.assert_close(cumulated, unit[:, 1:], rtol=0, atol=1e-6)
    torch.testing.assert_close(law.log_prob(value[:, :1]) - law.log_prob(high), rate)


def test_partons_keep_the_momentum_and_lose_their_mass(jets: tuple[Tensor, Tensor]) -> None:
    found = partons(jets[1])
    start = torch.tensor([math.hypot(MASS, MOMENTUM), MOMENTUM, 0, 0]).double()
    torch.testing.assert_close(found.sum(dim=1), start.expand(len(found), -1))
    there = found[..., 0] > 0
    assert (square(found)[there] > -1e-6).all()
    assert (found[..., 0].diff(dim=1) <= 0).all()
    counts = there.sum(dim=1)
    assert set(counts.tolist()) == set(range(3, LEAVES + 1))  # two would both be of a 250th of the mass
    assert (square(found)[counts == 3].sort(dim=1).values[:, -3] < CUT).all()  # at most two are of the last generation


def histories(rates: list[float], momenta: list[np.ndarray], generation: int) -> float:
    """Return the density of partons that one parton left, by walking through all its trees one by one."""
    total = np.sum(momenta, axis=0)
    parent = total[0] ** 2 - total[1:] @ total[1:]
    if len(momenta) == 1:
        return float(generation == GENERATIONS or (generation > 0 and parent < CUT))
    if generation == GENERATIONS or (generation > 0 and parent < CUT):
        return 0.0
    found, rate = 0.0, rates[generation]
    norm = rate / (1 - math.exp(-rate))
    for mask in range(1, 2 ** len(momenta) - 1):  # ordered: either part can be the child that is drawn first
        parts = [[m for k, m in enumerate(momenta) if (mask >> k) % 2 == side] for side in (1, 0)]
        whole = [np.sum(part, axis=0) for part in parts]
        left, right = (max(p[0] ** 2 - p[1:] @ p[1:], 0) / parent for p in whole)
        room = (1 - math.sqrt(left)) ** 2
        law = norm * math.exp(-rate * left) * norm / room * math.exp(-rate * right / room)
        size = math.sqrt(1 + left**2 + right**2 - 2 * left - 2 * right - 2 * left * right) / 2  # |p*| by M
        ways = [histories(rates, part, generation + 1) for part in parts]
        found += law / (4 * math.pi) * 4 / (size * parent**2) * ways[0] * ways[1]
    return found


def test_the_density_is_the_sum_over_all_trees(jets: tuple[Tensor, Tensor]) -> None:
    theta, x = jets
    counts = (partons(x)[..., 0] > 0).sum(dim=1)
    for count in range(3, 7):
        row = int((counts == count).nonzero()[0])
        rates = [float(theta[row, 0])] + [float(theta[row, 1])] * (GENERATIONS - 1)
        summed = histories(rates, list(partons(x)[row, :count].numpy()), 0)
        found = float(Jets().log_likelihood(theta[[row]], x[[row]]))
        assert found == pytest.approx(math.log(summed), rel=1e-8)


def test_the_density_has_a_finite_slope_in_both_rates(jets: tuple[Tensor, Tensor]) -> None:
    theta, x = jets[0][:300].clone().requires_grad_(), jets[1][:300]
    logs = Jets().log_likelihood(theta, x)
    (slope,) = torch.autograd.grad(logs.sum(), theta)
    assert logs.isfinite().all()
    assert slope.isfinite().all()
    assert (slope[:, 1] != 0).double().mean() > 0.9


def test_the_density_is_the_sampler_s(jets: tuple[Tensor, Tensor]) -> None:
    """E (p₁/p₀) = 1, E s = 0 and E (t - s) s = 0 over p₀, of the score s and the joint score t on the tape."""
    problem, one = Jets(), torch.tensor([[2.0, 3.0]]).double().expand(3000, -1)
    x = problem.simulated(one, generator(3))
    other = torch.tensor([[2.6, 3.5]]).double().expand(3000, -1)
    ratio = (problem.log_likelihood(other, x) - problem.log_likelihood(one, x)).exp()
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(3000)
    assert ratio.std() > 0.2
    traced = problem.mine(one, generator(4))
    theta = one.clone().requires_grad_()
    (score,) = torch.autograd.grad(problem.log_likelihood(theta, traced.x).sum(), theta)
    for zero in (*score.T, *((traced.score - score) * score).T):
        assert abs(zero.mean()) < 4 * zero.std() / math.sqrt(3000)
    assert ((traced.score - score).std(dim=0) < traced.score.std(dim=0)).all()
    assert trace(problem.simulate, one, traced.values).x.equal(traced.x)


def test_one_parton_is_no_jet() -> None:
    x = torch.zeros(1, 4 * LEAVES).double()
    x[0, :4] = torch.tensor([math.hypot(MASS, MOMENTUM), MOMENTUM, 0, 0])
    assert Jets().log_likelihood(torch.ones(1, 2).double(), x).item() == -torch.inf
