"""Whether two samples are of one law, by their nearest neighbours: a test that needs no training."""

import math
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor


@dataclass(frozen=True)
class Told:
    """How far two samples can be told apart.

    Args:
        accuracy: share of the points whose sample is guessed; 0.5 where the laws are one.
        p_value: probability of as high an accuracy where they are.
    """

    accuracy: float
    p_value: float


def told_apart(one: Tensor, other: Tensor, generator: torch.Generator) -> Told:
    """Guess the sample of half of the points from the majority of the nearest √n of the other half, n points.

    Distances are taken on columns divided by their deviations, constant ones as they are.
    Source: the classifier two-sample test with nearest neighbours of D. Lopez-Paz, M. Oquab, Revisiting classifier
    two-sample tests, 2017, arXiv 1610.06545.

    Args:
        one, other: samples of n points each, shape (n, columns).
        generator: of the division into halves.
    """
    half = len(one) // 2
    rows = [part[torch.randperm(len(part), generator=generator)] for part in (one, other)]
    known, asked = (torch.cat([part[kept] for part in rows]) for kept in (slice(half), slice(half, None)))
    deviation = torch.cat(rows).std(dim=0)
    scale = torch.where(deviation > 0, deviation, 1.0)
    nearest = math.isqrt(len(known)) // 2 * 2 + 1
    # equal points, as counts are, must not be taken in their order
    order = torch.randperm(len(known), generator=generator)
    distances = torch.cdist(asked / scale, known[order] / scale)
    labels = (order >= half)[distances.topk(nearest, dim=1, largest=False).indices]
    guessed = labels.double().mean(dim=1) > 0.5
    right = int((guessed == (torch.arange(len(asked)) >= len(asked) // 2)).sum())
    return Told(right / len(asked), float(stats.binom.sf(right - 1, len(asked), 0.5)))
