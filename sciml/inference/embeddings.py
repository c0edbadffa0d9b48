"""Networks that make a vector of fixed length of structured data: sets of particles and the trees that join them."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

FEATURES = 7
"""Numbers by which a network is told of one particle."""


def described(momenta: Tensor, scale: Tensor) -> Tensor:
    """Return what networks are told of particles, shape (..., 7).

    Energy and momentum, the logarithms of energy and mass, and the direction's angle with the first axis.

    Args:
        momenta: energy first, shape (..., 4), zero where there is no particle.
        scale: energy of order one, shape ().
    """
    energy, momentum = momenta[..., 0], momenta[..., 1:]
    size = momentum.norm(dim=-1)
    mass = (energy**2 - size**2).clamp_min(0).sqrt()
    angle = torch.atan2(momentum[..., 1:].norm(dim=-1), momentum[..., 0])
    logs = torch.log1p(energy), torch.log1p(mass), 10 * angle
    return torch.cat([momenta / scale, torch.stack(logs, dim=-1)], dim=-1)


class SetNetwork(nn.Module):
    """ρ(Σ_i φ(p_i)) of particles in no order.

    Source: M. Zaheer et al., Deep sets, 2017, arXiv 1703.06114.

    Args:
        width: units of a layer.
        outputs: length of the vector.
        scale: energy of order one.
    """

    scale: Tensor

    def __init__(self, width: int, outputs: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))
        self.each = nn.Sequential(
            nn.Linear(FEATURES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.all = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs))

    def forward(self, momenta: Tensor) -> Tensor:
        """Return the vectors (n, outputs) of particles (n, most, 4)."""
        there = momenta[..., :1] > 0
        return self.all((there * self.each(described(momenta, self.scale))).sum(dim=1))


class TreeNetwork(nn.Module):
    """Particles joined two by two, those of least mass together first; each join makes one vector of two.

    h_k = h_i + h_j + f(h_i, h_j, p_i, p_j, p_k),  p_k = p_i + p_j,  h_i = φ(p_i) of a particle itself

    The tree guesses the history of the particles; f is the same at all joins. Source: G. Louppe, K. Cho, C. Becot,
    K. Cranmer, QCD-aware recursive neural networks for jet physics, 2017, arXiv 1702.00748.

    Args:
        width: units of a layer.
        outputs: length of the vector.
        scale: energy of order one.
    """

    scale: Tensor

    def __init__(self, width: int, outputs: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))
        self.each = nn.Sequential(nn.Linear(FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        self.join = nn.Sequential(nn.Linear(2 * width + 3 * FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        self.all = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs))

    def forward(self, momenta: Tensor) -> Tensor:
        """Return the vectors (n, outputs) of particles (n, most, 4)."""
        rows = torch.arange(len(momenta), device=momenta.device)
        hidden = (momenta[..., :1] > 0) * self.each(described(momenta, self.scale))
        for join in joins(momenta):
            at, other = (rows, join.kept), (rows, join.dropped)
            told = [described(p, self.scale) for p in (join.first, join.second, join.first + join.second)]
            made = hidden[at] + hidden[other] + self.join(torch.cat([hidden[at], hidden[other], *told], dim=1))
            hidden = hidden.index_put(at, torch.where(join.due[:, None], made, hidden[at]))
        return self.all(hidden[:, 0])


@dataclass(frozen=True)
class Join:
    """The next two clusters to be joined in each of n sets, the result in the place of the first.

    Args:
        kept, dropped: places of the two, the first before the second, shape (n,).
        first, second: their momenta, shape (n, 4).
        due: whether there are two left, shape (n,), bool.
    """

    kept: Tensor
    dropped: Tensor
    first: Tensor
    second: Tensor
    due: Tensor


@torch.no_grad()
def joins(momenta: Tensor) -> Iterator[Join]:
    """Yield the joins of particles (n, most, 4) into one cluster, at place 0, those of least joint mass first."""
    count, momenta = momenta.shape[1], momenta.clone()
    there, rows = momenta[..., 0] > 0, torch.arange(len(momenta), device=momenta.device)
    later = torch.ones(count, count, dtype=torch.bool, device=momenta.device).triu(1)
    for _ in range(count - 1):
        joint = momenta[:, :, None] + momenta[:, None]
        squares = joint[..., 0] ** 2 - (joint[..., 1:] ** 2).sum(dim=-1)
        possible = there[:, :, None] & there[:, None] & later
        nearest = squares.masked_fill(~possible, torch.inf).flatten(1).argmin(dim=1)
        kept, dropped, due = nearest // count, nearest % count, possible.flatten(1).any(dim=1)
        first, second = momenta[rows, kept], momenta[rows, dropped]
        yield Join(kept, dropped, first, second, due)
        momenta[rows, kept] = torch.where(due[:, None], first + second, first)
        there[rows, dropped] &= ~due
