"""Samples of a law known up to a constant, by resampling draws of another law."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from sciml.inference.laws import Gamma, Noise
from sciml.sampling import systematic

T = TypeVar("T")
CHUNK = 2**17
"""Draws that are weighed at a time."""


class Sampler(Protocol):
    """A law that can be drawn from, such as a prior."""

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw points, shape (count, parameters)."""
        ...


class StudentT:
    """The Student t law of a centre (d,), a scale matrix (d, d) and degrees of freedom: a normal law, heavier tailed.

    Args:
        centre: shape (d,), float64.
        scale: shape (d, d); the covariance times (degrees - 2) / degrees.
        degrees: more than 0.
    """

    def __init__(self, centre: Tensor, scale: Tensor, degrees: float) -> None:
        self.centre = centre
        self.factor = torch.linalg.cholesky(scale)
        self.degrees = degrees

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw points, shape (count, d)."""
        normal = torch.randn(count, len(self.centre), generator=generator, dtype=self.centre.dtype)
        precision = Gamma(self.degrees / 2, self.degrees / 2).sample(Noise(count, generator, self.centre.dtype))
        return self.centre + (normal @ self.factor.T) / precision.sqrt()[:, None]

    def log_prob(self, points: Tensor) -> Tensor:
        """Return the log density of points (n, d), shape (n,)."""
        size, degrees = len(self.centre), self.degrees
        standard = torch.linalg.solve_triangular(self.factor, (points - self.centre).T, upper=False)
        constant = math.lgamma((degrees + size) / 2) - math.lgamma(degrees / 2) - size / 2 * math.log(degrees * math.pi)
        volume = self.factor.diagonal().log().sum()
        return constant - volume - (degrees + size) / 2 * torch.log1p((standard**2).sum(0) / degrees)


def effective_size(log_weights: Tensor) -> float:
    """Return ``(Σ w)² / Σ w²``, how many equally weighted draws the weights are worth."""
    return float(torch.exp(2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)))


def weigh(
    law: Sampler,
    log_weight: Callable[[Tensor], Tensor],
    count: int,
    generator: torch.Generator,
    most: int = 2**22,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Draw from p until the weights sum to ``count`` times the greatest, or ``most`` draws are made.

    Returns draws (n, parameters) and their log weights (n,).

    Args:
        law: p.
        log_weight: log w of each row of (n, parameters), up to a constant, shape (n,).
        count: the least sum of weights, in the greatest.
        generator: the source of randomness.
        most: draws of p at most.
        chunk: draws that are weighed at a time.
    """
    draws, logs = [], []
    while True:
        draws.append(law.sample(min(chunk, most), generator))
        logs.append(log_weight(draws[-1]))
        weighed = torch.cat(logs)
        if torch.exp(weighed - weighed.max()).sum() >= count or len(weighed) >= most:
            return torch.cat(draws), weighed


def importance_resample(
    law: Sampler,
    log_weight: Callable[[Tensor], Tensor],
    count: int,
    generator: torch.Generator,
    most: int = 2**22,
    chunk: int = CHUNK,
) -> Tensor:
    """Draw from ``q(θ) ∝ p(θ) w(θ)`` by sampling importance resampling, shape (count, parameters).

    Draws of p are weighed until their weights sum to ``count`` times the greatest; systematic
    resampling then takes none twice. Where ``most`` draws do not suffice, the heaviest are repeated.
    Source: D. B. Rubin, Using the SIR algorithm to simulate posterior distributions, Bayesian Statistics 3,
    1988.

    Args:
        law: p.
        log_weight: log w of each row of (n, parameters), up to a constant, shape (n,).
        count: samples.
        generator: the source of randomness.
        most: draws of p at most.
        chunk: draws that are weighed at a time.
    """
    draws, logs = weigh(law, log_weight, count, generator, most, chunk)
    return draws[systematic(torch.exp(logs - logs.max()), count, generator)]


def by_observation(function: Callable[[np.ndarray], T], kept: int = 16) -> Callable[[np.ndarray], T]:
    """Return a costly function of an observation (data,) that remembers its results for the latest ``kept``."""

    @lru_cache(maxsize=kept)
    def found(key: bytes) -> T:
        return function(np.frombuffer(key).copy())

    return lambda observation: found(np.ascontiguousarray(observation, dtype=float).tobytes())


def accepted(propose: Callable[[], Tensor], count: int) -> Tensor:
    """Return the first ``count`` points of proposals from which those to reject are left out already.

    Args:
        propose: returns some points, shape (n, parameters), other ones each time.
        count: how many are wanted.
    """
    kept = [propose()]
    while sum(map(len, kept)) < count:
        kept.append(propose())
    return torch.cat(kept)[:count]
