"""Rounds of simulations that close in on the observation, each drawn from the emulated posterior of those before."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from sciml.inference.emulator import Emulator
from sciml.inference.tempering import temper
from sciml.views.simulator import Simulator

PARTICLES, MOVES = 1000, 5
"""Of the posteriors from which simulations are drawn."""


def emulated_likelihood(problem: Simulator, emulator: Emulator, observation: np.ndarray) -> Callable[[Tensor], Tensor]:
    """Return log p(x|θ) of parameters (n, parameters), shape (n,), as emulated."""
    prior, x, found = problem.prior(), torch.as_tensor(observation, dtype=torch.float64), emulator.cpu()
    return lambda theta: found(prior.normal_scores(theta), x)


def close_in(
    problem: Simulator,
    emulator: Emulator,
    simulated: tuple[Tensor, Tensor],
    batches: Iterable[int],
    observation: np.ndarray,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Simulate a batch after the other where the posterior is, as emulated by then.

    Yields all simulations so far, whenever the emulator has learnt from them: at first and after each batch.

    Args:
        problem: what is simulated.
        emulator: what learns.
        simulated: parameters (n, parameters) from the prior, and data (n, data).
        batches: how many simulations each of them has.
        observation: shape (data,).
        generator: the source of randomness.
    """
    prior, (theta, x) = problem.prior(), simulated
    around = prior.normal_scores(theta)
    emulator.fit(around, x, around, generator)
    yield theta, x
    for count in batches:
        likelihood = emulated_likelihood(problem, emulator, observation)
        found = temper(prior, likelihood, max(PARTICLES, count), generator, MOVES).theta
        drawn = found[torch.randperm(len(found), generator=generator)[:count]]
        made = problem.simulated(drawn, generator)
        good = made.isfinite().all(dim=1)
        theta, x = torch.cat([theta, drawn[good]]), torch.cat([x, made[good]])
        emulator.fit(prior.normal_scores(theta), x, prior.normal_scores(found), generator)
        yield theta, x
