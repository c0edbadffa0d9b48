"""The public tasks and the board of nails: what they simulate, and their reference posteriors two independent ways."""

from typing import Any

import h5py
import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest, norm

import sciml
from problems.inference._sampled import SAMPLES
from problems.inference.bernoulli_glm import BernoulliGLM
from problems.inference.bernoulli_glm_raw import BernoulliGLMRaw
from problems.inference.galton import Galton
from problems.inference.gaussian_linear import GaussianLinear
from problems.inference.gaussian_linear_uniform import GaussianLinearUniform
from problems.inference.gaussian_mixture import GaussianMixture
from problems.inference.lotka_volterra import LotkaVolterra
from problems.inference.sir import SIR
from problems.inference.slcp import SLCP
from problems.inference.slcp_distractors import SLCPDistractors
from problems.inference.two_moons import TwoMoons
from sciml.errors import UserError
from sciml.inference.draws import RandomDraws
from sciml.inference.priors import Prior, box, gaussian, log_normal
from sciml.inference.tape import joint_ratio
from sciml.references import reference_file
from sciml.solution import Posterior
from solvers.inference.exact import Exact

TASKS = [
    BernoulliGLM, BernoulliGLMRaw, GaussianLinear, GaussianLinearUniform, GaussianMixture, LotkaVolterra, SIR, SLCP,
    SLCPDistractors, TwoMoons, Galton,
]  # fmt: skip
PRIORS = {
    "box": box((-1.0, 2.0), (1.0, 5.0)),
    "log_normal": log_normal((0.0, -3.0), (0.5, 0.2)),
    "gaussian": gaussian(torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64)),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", PRIORS)
def test_priors_map_to_unconstrained_space_and_back(name: str) -> None:
    prior = PRIORS[name]
    theta = prior.sample(200, generator())
    free = prior.unconstrain(theta).requires_grad_()
    torch.testing.assert_close(prior.constrain(free), theta)
    slopes = torch.autograd.functional.jacobian(lambda u: prior.constrain(u).sum(0), free).permute(1, 0, 2)
    volume = torch.linalg.slogdet(slopes).logabsdet
    torch.testing.assert_close(prior.log_prob_free(free), prior.log_prob(theta) + volume)
    wild = 20 * torch.randn(1000, 2, generator=generator(), dtype=torch.float64)
    inside = prior.constrain(wild)
    low, high = prior.bounds
    assert ((inside >= low) & (inside <= high)).all()


def test_a_gaussian_prior_has_its_precision_and_moments() -> None:
    prior = PRIORS["gaussian"]
    precision = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
    known = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=torch.float64), precision_matrix=precision)
    theta = prior.sample(20_000, generator())
    torch.testing.assert_close(prior.log_prob(theta), known.log_prob(theta))
    torch.testing.assert_close(torch.cov(theta.T), torch.linalg.inv(precision), rtol=0, atol=0.2)
    torch.testing.assert_close(prior.moments[1], torch.linalg.inv(precision).diagonal().sqrt())


def test_priors_of_wrong_make_are_refused() -> None:
    one = torch.distributions.Uniform(torch.tensor(0.0).double(), 1.0)
    with pytest.raises(UserError, match="got none"):
        Prior([])
    with pytest.raises(UserError, match=r"factor of shape \(1, 1\), got \(2, 2\)"):
        Prior([one], torch.eye(2))
    with pytest.raises(UserError, match="unbounded laws"):
        Prior([one], torch.eye(1))


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.__name__)
def test_a_task_has_ten_observations_like_its_simulations(task: Any) -> None:
    problem = task()
    assert problem.tractable
    observations = np.stack([task(observation=k).observed() for k in range(1, 11)])
    assert observations.shape == (10, len(problem.data))
    theta, x = problem.joint(2000, generator())
    assert (problem.prior().contains(theta)).all()
    low, high = x.min(dim=0).values.numpy(), x.max(dim=0).values.numpy()
    assert ((observations >= low) & (observations <= high)).mean() > 0.97
    for observation in (0, 11):
        with pytest.raises(UserError, match="observation should be"):
            task(observation=observation)


@pytest.mark.parametrize("task", TASKS[:-1], ids=lambda t: t.__name__)
def test_published_parameters_explain_their_own_observations_best(task: Any) -> None:
    problem = task()
    name = "true_parameters"
    theta, x = problem.constant(name), problem.constant("observations")
    own = problem.log_likelihood(theta, x)
    others = torch.stack([problem.log_likelihood(theta.roll(k, 0), x) for k in range(1, 10)])
    assert (own > others.mean(dim=0)).all()
    assert ((own > others).double().mean(dim=1)).mean() > 0.9


@pytest.mark.parametrize(
    "task",
    [BernoulliGLM, GaussianLinear, GaussianLinearUniform, GaussianMixture, SLCP, TwoMoons, Galton],
    ids=lambda t: t.__name__,
)
def test_references_agree_with_tempered_sampling(task: Any) -> None:
    problem = task(observation=4, samples=4000)
    posterior = sciml.solve(problem, Exact(particles=1000), seed=1)
    assert isinstance(posterior, Posterior)
    reference, samples = problem.reference(), posterior.sample(4000, problem.observed())
    assert reference.shape == samples.shape
    assert problem.prior().contains(torch.from_numpy(reference)).all()
    # Equal laws differ by 0.044 in one of a thousand pairs of 4000 samples; particles that share an ancestor
    # are worth fewer.
    for ours, theirs in zip(reference.T, samples.T, strict=True):
        assert ks_2samp(ours, theirs).statistic < 0.08  # pyright: ignore[reportAttributeAccessIssue]
    assert problem.reference().tobytes() == reference.tobytes()


@pytest.mark.parametrize(
    ("task", "same"), [(BernoulliGLMRaw, BernoulliGLM), (SLCPDistractors, SLCP)], ids=lambda t: t.__name__
)
def test_tasks_that_see_the_same_in_other_data_have_the_same_posterior(task: Any, same: Any) -> None:
    one, other = (kind(observation=6, samples=1000).reference() for kind in (task, same))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("task", [LotkaVolterra, SIR], ids=lambda t: t.__name__)
def test_stored_references_were_diagnosed_and_have_the_moments_of_importance_sampling(task: Any) -> None:
    problem = task(observation=2)
    with h5py.File(reference_file(*SAMPLES)) as file:
        quality = {name: np.asarray(values) for name, values in file[problem.name].attrs.items()}
    assert (quality["effective_share"] > 0.3).all()
    assert (quality["distinct"] == 10_000).all()
    assert (quality["mean_difference"] < 0.2).all()
    assert (quality["r_hat"] < 1.05).all()
    prior, stored = problem.prior(), torch.from_numpy(problem.reference())
    free = prior.unconstrain(stored)
    wide = torch.distributions.MultivariateNormal(free.mean(dim=0), 1.5 * torch.cov(free.T))
    drawn = free.mean(dim=0) + torch.randn(3000, free.shape[1], generator=generator(9)).double() @ wide.scale_tril.T
    x = torch.from_numpy(problem.observed()).expand(3000, -1)
    logs = problem.log_likelihood(prior.constrain(drawn), x) + prior.log_prob_free(drawn) - wide.log_prob(drawn)
    weights = torch.softmax(logs, dim=0)
    mean = weights @ drawn
    assert ((mean - free.mean(dim=0)).abs() < 0.1 * free.std(dim=0)).all()
    spread = (weights @ (drawn - mean) ** 2).sqrt()
    assert ((spread / free.std(dim=0) - 1).abs() < 0.1).all()


def test_the_conjugate_posterior_is_that_of_theory() -> None:
    problem = GaussianLinear(observation=3)
    samples = problem.reference()
    for k, x in enumerate(problem.observed()):
        assert kstest(samples[:, k], norm(x / 2, 0.05**0.5).cdf).pvalue > 1e-4


def test_the_slots_of_the_board_have_their_exact_probabilities() -> None:
    problem = Galton()
    theta = torch.tensor([[-0.8], [0.6]], dtype=torch.float64)
    slots = problem.slots(theta)
    torch.testing.assert_close(slots.sum(dim=1), torch.ones(2, dtype=torch.float64))
    count = 100_000
    for row, exact in zip(theta, slots, strict=True):
        x = problem.simulate(row.expand(count, 1), RandomDraws(count, generator()))
        found = torch.bincount(x[:, 0].long(), minlength=31) / count
        assert ((found - exact).abs() < 5 * (exact / count).sqrt() + 1e-12).all()


def test_the_mean_joint_score_and_ratio_of_balls_in_a_slot_are_those_of_the_likelihood() -> None:
    problem, count = Galton(), 200_000
    theta = torch.full((count, 1), -0.6, dtype=torch.float64)
    mined = problem.mine(theta, generator(2))
    ratios = joint_ratio(problem.simulate, mined.values, theta - 0.1, theta).exp()
    one = theta[:1].clone().requires_grad_()
    slots = problem.slots(one)[0]
    exact_ratio = (problem.slots(theta[:1] - 0.1) / problem.slots(theta[:1]))[0]
    seen = 0
    for slot in range(31):
        rows = mined.x[:, 0] == slot
        if (balls := int(rows.sum())) < 500:
            continue
        seen += 1
        exact = torch.autograd.grad(slots[slot], one, retain_graph=True)[0] / slots[slot]
        scores = mined.score[rows, 0]
        assert float(scores.mean()) == pytest.approx(exact.item(), abs=5 * float(scores.std()) / balls**0.5)
        found = ratios[rows]
        assert float(found.mean()) == pytest.approx(float(exact_ratio[slot]), abs=5 * float(found.std()) / balls**0.5)
    assert seen >= 10


def test_several_balls_tell_more_than_one() -> None:
    one, many = (
        np.mean([Galton(observation=k, balls=balls, samples=500).reference().std() for k in range(1, 11)])
        for balls in (1, 20)
    )
    assert many < 0.5 * one


def test_the_exact_solver_restores_and_repeats() -> None:
    problem, solver = GaussianMixture(samples=500), Exact(particles=200, moves=5)
    one, again, other = (sciml.solve(problem, solver, seed=s) for s in (1, 1, 2))
    x = problem.observed()
    np.testing.assert_array_equal(one.state["theta"], again.state["theta"])
    assert not np.array_equal(one.state["theta"], other.state["theta"])
    elsewhere = np.stack([x, x + 1])
    np.testing.assert_array_equal(solver.restore(problem, one.state)(elsewhere), one(elsewhere))
    np.testing.assert_allclose(one(elsewhere)[1] - one(elsewhere)[0], 1, atol=0.3)


class Latent(Galton):
    """The board without its likelihood."""

    log_likelihood = Galton.__mro__[1].log_likelihood  # pyright: ignore[reportAttributeAccessIssue]


def test_the_exact_solver_refuses_latent_draws() -> None:
    assert not Latent().tractable
    with pytest.raises(UserError, match="its likelihood is not known"):
        sciml.solve(Latent(), Exact())
    with pytest.raises(UserError, match="no known likelihood"):
        Latent().log_likelihood(torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1))
