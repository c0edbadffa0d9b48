"""Samples of a law known up to a constant, by resampling draws of a prior."""

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.inference.priors import Prior

CHUNK = 2**17
"""Draws of the prior that are weighed at a time."""


def effective_size(log_weights: Tensor) -> float:
    """Return ``(Σ w)² / Σ w²``, how many equally weighted draws the weights are worth."""
    return float(torch.exp(2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)))


def importance_resample(
    prior: Prior,
    log_weight: Callable[[Tensor], Tensor],
    count: int,
    generator: torch.Generator,
    most: int = 2**22,
) -> Tensor:
    """Draw from ``q(θ) ∝ p(θ) w(θ)`` by sampling importance resampling, shape (count, parameters).

    Draws of the prior are weighed until their weights sum to ``count`` times the greatest; systematic
    resampling then takes none twice. Where ``most`` draws do not suffice, the heaviest are repeated.
    Source: D. B. Rubin, Using the SIR algorithm to simulate posterior distributions, Bayesian Statistics 3,
    1988.

    Args:
        prior: p.
        log_weight: log w of each row of (n, parameters), up to a constant, shape (n,).
        count: samples.
        generator: the source of randomness.
        most: draws of the prior at most.
    """
    draws, logs = [], []
    while True:
        draws.append(prior.sample(min(CHUNK, most), generator))
        logs.append(log_weight(draws[-1]))
        weighed = torch.cat(logs)
        weights = torch.exp(weighed - weighed.max())
        if weights.sum() >= count or len(weights) >= most:
            break
    cumulative = weights.cumsum(0)
    offset = torch.rand(1, generator=generator, dtype=torch.float64)
    heights = (torch.arange(count, dtype=torch.float64) + offset) / count * cumulative[-1]
    rows = torch.searchsorted(cumulative, heights).clamp_max(len(weights) - 1)
    return torch.cat(draws)[rows[torch.randperm(count, generator=generator)]]
