"""Rows drawn in proportion to weights."""

import torch
from torch import Tensor


def systematic(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return rows drawn in proportion to weights (n,), at equal steps of their sum and in random order, shape (count,).

    Source: G. Kitagawa, Monte Carlo filter and smoother for non-Gaussian nonlinear state space models, J. Comput.
    Graph. Stat. 5, 1996.
    """
    cumulative = weights.cumsum(0)
    to = {"dtype": torch.float64, "device": weights.device}
    heights = (torch.arange(count, **to) + torch.rand(1, generator=generator, **to)) / count * cumulative[-1]
    rows = torch.searchsorted(cumulative, heights).clamp_max(len(weights) - 1)
    return rows[torch.randperm(count, generator=generator, device=rows.device)]
