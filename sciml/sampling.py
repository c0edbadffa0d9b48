"""Rows drawn in proportion to weights."""

import torch
from torch import Tensor


def systematic(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return rows drawn in proportion to weights (n,), at equal steps of their sum and in random order, shape (count,).

    Source: J. Carpenter, P. Clifford, P. Fearnhead, Improved particle filter for nonlinear problems, IEE Proc. Radar
    Sonar Navig. 146, 1999.

    Args:
        weights: not negative, their sum any.
        count: how many rows are wanted.
        generator: on the device of the weights.
    """
    cumulative = weights.cumsum(0)
    to = {"dtype": torch.float64, "device": weights.device}
    heights = (torch.arange(count, **to) + torch.rand(1, generator=generator, **to)) / count * cumulative[-1]
    rows = torch.searchsorted(cumulative, heights).clamp_max(len(weights) - 1)
    return rows[torch.randperm(count, generator=generator, device=rows.device)]
