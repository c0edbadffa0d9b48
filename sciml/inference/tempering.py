"""Samples of a posterior whose likelihood is known, by tempered sequential Monte Carlo."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.errors import SolveError
from sciml.inference.priors import Prior
from sciml.inference.resampling import effective_size
from sciml.sampling import systematic

LEAPS = 0.1
"""Share of the moves by a whole difference of two particles, from mode to mode."""


@dataclass(frozen=True)
class Tempered:
    """What a run ended with.

    Args:
        theta: particles, shape (particles, parameters).
        log_evidence: log ∫ p(x|θ) p(θ) dθ, of the likelihood as given.
        temperatures: the steps from the prior to the posterior.
        accepted: the share of moves accepted in the last sweep.
        evaluations: of the likelihood.
    """

    theta: Tensor
    log_evidence: float
    temperatures: int
    accepted: float
    evaluations: int


def temper(
    prior: Prior,
    log_likelihood: Callable[[Tensor], Tensor],
    particles: int,
    generator: torch.Generator,
    moves: int = 10,
    kept: float = 0.5,
) -> Tempered:
    """Draw from p(θ) p(x|θ) by way of p(θ) p(x|θ)^β, β rising from 0 to 1.

    Each temperature leaves a share of the particles effective; they are resampled and moved in unconstrained space by
    Metropolis steps along differences of two particles of the other half of the ensemble.
    Sources: P. Del Moral, A. Doucet, A. Jasra, Sequential Monte Carlo samplers, J. R. Stat. Soc. B 68, 2006;
    C. J. F. ter Braak, A Markov chain Monte Carlo version of the genetic algorithm differential evolution,
    Stat. Comput. 16, 2006.

    Args:
        prior: p(θ).
        log_likelihood: log p(x|θ) of each row of (n, parameters), shape (n,).
        particles: at least 8.
        generator: the source of randomness.
        moves: sweeps at each temperature; twice as many at the last.
        kept: the share of the particles that the next temperature leaves effective.

    Raises:
        SolveError: no particle of the prior has a finite likelihood.
    """

    def likelihood(theta: Tensor) -> Tensor:
        logs = log_likelihood(theta)
        return torch.where(logs.isnan(), -torch.inf, logs)

    free = prior.unconstrain(prior.sample(particles, generator))
    logs = likelihood(prior.constrain(free))
    if not (logs > -torch.inf).any():
        raise SolveError(f"none of {particles} draws of the prior has a finite likelihood; use more particles")
    beta = log_evidence = accepted = 0.0
    temperatures = sweeps = 0
    while beta < 1:
        step = rise(logs, 1 - beta, kept * particles)
        weights = step * logs
        log_evidence += float(weights.logsumexp(0)) - math.log(particles)
        rows = systematic(torch.softmax(weights, dim=0), particles, generator)
        free, logs, beta = free[rows], logs[rows], beta + step
        temperatures += 1
        for _ in range(moves if beta < 1 else 2 * moves):
            free, logs, accepted = sweep(prior, likelihood, lambda v, b=beta: b * v, free, logs, generator)
            sweeps += 1
    return Tempered(prior.constrain(free), log_evidence, temperatures, accepted, particles * (1 + sweeps))


def rise(logs: Tensor, left: float, target: float) -> float:
    """Return the rise of β at which the weights' effective size has fallen to the target, or what is left."""
    if effective_size(left * logs) >= target:
        return left
    low, high = 0.0, left
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if effective_size(middle * logs) >= target else (low, middle)
    return high


def sweep(
    prior: Prior,
    evaluate: Callable[[Tensor], Tensor],
    log_weight: Callable[[Tensor], Tensor],
    free: Tensor,
    values: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, float]:
    """Move each half of the particles once, by differences of pairs of the other half.

    What is left invariant is p(θ) w(v), of parameters θ and values v drawn or computed at them.

    Args:
        prior: p(θ).
        evaluate: v at parameters (n, parameters), shape (n, ...).
        log_weight: log w of values, shape (n,).
        free: unconstrained particles, shape (n, parameters), at least 4.
        values: v at the particles, of finite log weights.
        generator: the source of randomness.

    Returns:
        Particles, their values, and the share of the moves that were accepted.
    """
    halves = list(torch.randperm(len(free), generator=generator).chunk(2))
    free, values, accepted = free.clone(), values.clone(), 0
    for moved, other in (halves, halves[::-1]):
        count, size = len(moved), free.shape[1]
        pairs = torch.randint(len(other), (2, count), generator=generator)
        unit = torch.rand(3, count, generator=generator, dtype=free.dtype)
        length = torch.where(unit[0] < LEAPS, 1.0, 2.38 / math.sqrt(2 * size) * (0.1 + 1.1 * unit[1]))
        jitter = 1e-5 * torch.randn(count, size, generator=generator, dtype=free.dtype) * free[other].std(dim=0)
        now = free[moved]
        then = now + length[:, None] * (free[other[pairs[0]]] - free[other[pairs[1]]]) + jitter
        found = evaluate(prior.constrain(then))
        gain = log_weight(found) - log_weight(values[moved]) + prior.log_prob_free(then) - prior.log_prob_free(now)
        taken = unit[2].log() < gain
        free[moved[taken]], values[moved[taken]] = then[taken], found[taken]
        accepted += int(taken.sum())
    return free, values, accepted / len(free)


def r_hat(runs: Tensor) -> float:
    """Return the greatest ratio, over parameters, of pooled to single deviations of independent runs; 1 at best.

    Source: A. Gelman, D. B. Rubin, Inference from iterative simulation using multiple sequences, Statistical
    Science 7, 1992.

    Args:
        runs: shape (runs, samples, parameters).
    """
    size = runs.shape[1]
    within = runs.var(dim=1).mean(dim=0)
    between = runs.mean(dim=1).var(dim=0)
    return float(((size - 1) / size + between / within).sqrt().max())
