"""Ratios mined from a simulator's latent draws, against the exact likelihood of the Galton board."""

import numpy as np
import pytest
import torch
from torch import Tensor

import sciml
from problems.inference.galton import Galton
from problems.inference.two_moons import TwoMoons
from sciml.solution import Posterior
from solvers.inference.gold import Gold

HYPOTHESES = torch.tensor([[-0.8], [-0.6]], dtype=torch.float64)
"""Those of the paper."""


def squared_error(posterior: Posterior) -> float:
    """Return the mean of (log r̂ - log r)² over data of both hypotheses, an exact expectation."""
    chances = Galton().slots(HYPOTHESES)
    seen = np.flatnonzero(chances.sum(dim=0).numpy() > 0)
    total = 0.0
    for slot in seen:
        one, other = posterior.log_prob(HYPOTHESES.numpy(), [float(slot)])
        exact = float((chances[0, slot] / chances[1, slot]).log())
        total += float(chances[:, slot].mean()) * (one - other - exact) ** 2
    return total


def learn(loss: str, simulations: int = 1000, steps: int = 300) -> Posterior:
    solver = Gold(simulations, loss, steps=steps, width=32, blocks=1, contrast=8, learning_rate=5e-3)  # pyright: ignore[reportArgumentType]
    solution = sciml.solve(Galton(), solver, seed=0)
    assert isinstance(solution, Posterior)
    return solution


@pytest.mark.parametrize("loss", ["alice", "alices", "rolr", "rascal", "cascal"])
def test_what_the_simulator_knows_gives_the_ratio(loss: str) -> None:
    assert squared_error(learn(loss)) < 0.005


def test_the_classifier_alone_is_worse_by_far() -> None:
    assert squared_error(learn("carl")) > 4 * squared_error(learn("alices"))


@pytest.mark.parametrize(("loss", "allowed"), [("sally", 0.1), ("scandal", 0.1)])
def test_densities_of_the_statistic_and_of_the_data(loss: str, allowed: float) -> None:
    assert squared_error(learn(loss, 3000, 150)) < allowed


def test_the_posterior_is_that_of_the_exact_likelihood() -> None:
    problem = Galton(samples=2000)
    samples, reference = learn("alices").sample(2000, problem.observed()), problem.reference()
    assert abs(samples.mean() - reference.mean()) < 0.15 * reference.std()
    assert samples.std() == pytest.approx(reference.std(), rel=0.25)


def test_mined_numbers_average_to_those_of_the_likelihood() -> None:
    problem = Galton()
    module = Gold(20_000, "alices").fresh(problem, 0, torch.float64)
    assert isinstance(module, Gold)
    gold = module.gold(torch.device("cpu"))
    weights, readings = gold["log_ratio"].exp(), gold["readings"]
    every = problem.slots(readings)
    assert abs(float(readings[0])) < 1e-12
    for slot in (13, 15, 18):
        seen = gold["x"][:, 0] == slot
        exact = every[:, slot] / every[:, slot].mean()
        mean, spread = weights[seen].mean(dim=0), weights[seen].std(dim=0) / seen.sum() ** 0.5
        assert ((mean - exact).abs() / spread).max() < 5
        score = (weights[seen] * gold["score"][seen, :, 0]).mean(dim=0) / mean / module.theta_scale
        slope = torch.func.vmap(torch.func.grad(lambda t, s=slot: problem.slots(t[None])[0, s].log()))(readings)
        central = slice(1, None)
        assert (score - slope[:, 0])[central].abs().mean() < 0.1 * slope[:, 0].abs().mean()


def test_a_simulator_without_joint_density_is_refused() -> None:
    reason = Gold().refuses(TwoMoons())
    assert reason is not None
    assert "joint density" in reason
    assert Gold().refuses(Galton()) is None


def test_the_second_stage_of_sally_leaves_its_statistic_alone() -> None:
    module = Gold(200, "sally").fresh(Galton(), 0, torch.float64)
    first, second = ({id(p) for p in module.trained(stage)} for stage in (0, 1))
    assert first
    assert second
    assert not first & second
    module.begin(1)
    losses = module.losses(module.sample(torch.Generator().manual_seed(0)))
    sum(losses.values(), torch.zeros(())).backward()
    assert all(p.grad is None for p in module.statistic.parameters())  # pyright: ignore
    assert any(_moves(p) for p in module.network.parameters())  # pyright: ignore


def _moves(parameter: Tensor) -> bool:
    return parameter.grad is not None and bool((parameter.grad != 0).any())
