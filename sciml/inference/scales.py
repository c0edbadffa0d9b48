"""The scales on which networks see data."""

import torch
from torch import Tensor, nn

PLAIN, POSITIVE, COUNT = range(3)
SEEN = 50_000
"""Simulations at most from which a scale is found."""
REACH = 10.0
"""Deviations to which data are bent together where they are only looked at."""


class DataScale(nn.Module):
    """Data as z = (s(x) - c) / w, s being the logarithm of positive columns, 2√(x + 1/2) of counts and x of others.

    The logarithm makes relative errors alike, the root those of counts; c is the median of s and w half the
    width of its central 68 %, which outliers do not move. Which column is what is seen from simulations.
    Source: F. J. Anscombe, The transformation of Poisson, binomial and negative-binomial data, Biometrika 35, 1948.

    Args:
        columns: of the data.
        real: dtype.
    """

    kind: Tensor
    centre: Tensor
    width: Tensor

    def __init__(self, columns: int, real: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("kind", torch.full((columns,), PLAIN))
        self.register_buffer("centre", torch.zeros(columns, dtype=real))
        self.register_buffer("width", torch.ones(columns, dtype=real))

    def fit(self, x: Tensor) -> None:
        """Find the scale of each column of simulations (n, columns)."""
        x = x[:SEEN].to(self.centre)
        count = ((x >= 0) & (x == x.round())).all(dim=0)
        positive = (x > 0).all(dim=0) & ~count
        self.kind.copy_(torch.where(count, COUNT, torch.where(positive, POSITIVE, PLAIN)))
        bent = self._bent(x)
        low, middle, high = bent.quantile(torch.tensor([0.16, 0.5, 0.84]).to(x), dim=0)
        width, deviation = (high - low) / 2, bent.std(dim=0, correction=0)
        width = torch.where(width > 0.1 * deviation, width, deviation)
        self.centre.copy_(middle)
        self.width.copy_(torch.where(width > 0, width, 1))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return z of data (..., columns), counts spread by ``noise`` in (-1/2, 1/2) to a continuous law if wanted."""
        spread = x if noise is None else torch.where(self.kind == COUNT, x + noise, x)
        return (self._bent(spread) - self.centre) / self.width

    def inverse(self, z: Tensor) -> Tensor:
        """Return the data of z (..., columns), counts rounded, float64."""
        bent = z.double() * self.width + self.centre
        counts = ((bent / 2).clamp_min(0) ** 2 - 0.5).round().clamp_min(0)
        return torch.where(self.kind == POSITIVE, bent.exp(), torch.where(self.kind == COUNT, counts, bent))

    def context(self, x: Tensor) -> Tensor:
        """Return z bent together beyond ten deviations, for networks that look at data but need no density of them."""
        return REACH * torch.tanh(self(x) / REACH)

    def _bent(self, x: Tensor) -> Tensor:
        logs = x.clamp_min(torch.finfo(x.dtype).tiny).log()
        roots = 2 * (x + 0.5).clamp_min(0).sqrt()
        return torch.where(self.kind == POSITIVE, logs, torch.where(self.kind == COUNT, roots, x))
