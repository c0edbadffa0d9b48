"""Where new points go, and how much each of them counts."""

import math

import torch
from scipy.spatial import KDTree
from torch import Tensor

from sciml.pde.domains import Box
from sciml.sampling import systematic

POOL = 8
"""Candidates for each point that is drawn anew."""
EDGES = 0.5
"""The share of coordinates that follow the density of Chebyshev points."""
FINE = 1e-2
"""The ratio of root mean squared residuals to those at the first new points from which outliers are held back."""
OUTLYING = 4.0
"""The residual, relative to the mean one, as which a larger one counts."""
OVERFIT = 3.0
"""The ratio of mean squared residuals at fresh and at old points from which more points are taken."""
GROWTH = 4
"""The most residuals of a group up to which its points are doubled, relative to its points at the start."""


def toward_edges(coordinates: Tensor, box: Box, periodic: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """Return uniform points with half of their coordinates moved toward the ends of their axes.

    What fits between points is least certain beyond the last of them; the density ``1/(π √(s (1 - s)))``
    makes up for it.
    Source: A. Cohen, G. Migliorati, Optimal weighted least-squares methods (2017), arXiv 1608.00512.

    Args:
        coordinates: shape (n, axes).
        box: from which they were drawn.
        periodic: axes without ends.
        generator: chooses the coordinates.
    """
    low, high = torch.as_tensor(box.bounds).to(coordinates).T
    unit = ((coordinates - low) / (high - low)).clamp(0, 1)
    moved = low + (high - low) * (1 - torch.cos(math.pi * unit)) / 2
    chance = torch.rand(coordinates.shape, generator=generator, dtype=coordinates.dtype, device=coordinates.device)
    ended = torch.tensor([axis not in periodic for axis in box.axes], device=coordinates.device)
    return torch.where((chance < EDGES) & ended, moved, coordinates)


def spread(coordinates: Tensor, weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return rows drawn in proportion to weights, systematically in the order of a tree's leaves, shape (count,).

    Neighbours stand together there, so every part of the domain has its share, where independent draws leave gaps.
    Source: M. Gerber, N. Chopin, N. Whiteley, Negative association, ordering and convergence of resampling methods
    (2019), arXiv 1707.01845.

    Args:
        coordinates: shape (n, axes).
        weights: shape (n,).
        count: how many rows are wanted.
        generator: the source of randomness.
    """
    low, high = coordinates.aminmax(dim=0)
    unit = (coordinates - low) / (high - low).clamp_min(torch.finfo(low.dtype).tiny)
    order = torch.from_numpy(KDTree(unit.cpu().numpy(), leafsize=1).indices).to(weights.device)
    return order[systematic(weights[order], count, generator)]


def influence(relative: Tensor, fall: Tensor) -> Tensor:
    """Return factors of residuals by which none is far above the mean, once they are small.

    A singular corner would rule a mean of squares whatever the rest does. While residuals are large their peaks show
    fronts that still have to move, and count in full.
    Source: P. J. Huber, Robust estimation of a location parameter, Ann. Math. Stat. 35 (1964),
    doi:10.1214/aoms/1177703732.

    Args:
        relative: absolute residuals divided by their mean, shape (n,).
        fall: the ratio of the root of their mean square to what that was at the start.
    """
    return torch.where(fall < FINE, (OUTLYING / relative).clamp(max=1), torch.ones_like(relative))


def grows(fresh: Tensor, old: Tensor, residuals: int, first: int) -> bool:
    """Return whether a group needs more points.

    Args:
        fresh: squared residuals at points of which the network knows nothing.
        old: squared residuals at points that it was trained on.
        residuals: how many it was trained on.
        first: points at the start.
    """
    return bool(fresh.mean() > OVERFIT * old.mean()) and residuals < GROWTH * first
