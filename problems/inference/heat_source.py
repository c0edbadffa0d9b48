"""Where heat was released, and how fast it spreads."""

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sciml.inference.draws import Draws
from sciml.inference.priors import Prior
from sciml.pde.collocation import chebyshev
from sciml.problem import Variable

from ._observed import Observed

NODES = 48
WIDTH = 0.05
SENSORS = ((0.3, 0.4), (0.7, 0.35), (0.55, 0.75))
TIMES = (0.05, 0.1, 0.2, 0.4)
NOISE = 0.01


class HeatSource(Observed):
    """Diffusivity of a plate and the place where heat was released, from three noisy thermometers.

    u_t = κ Δu on the unit square, u = 0 at its edges, u(x, 0) = exp(-|x - s|² / (2 · 0.05²)),
    y_ij ~ N(u(p_i, t_j), 0.01²),  t_j = 0.05, 0.1, 0.2, 0.4
    with log κ ~ N(log 0.1, 0.5²), s ~ U(0.2, 0.8)²

    The plate is solved by Chebyshev collocation, exactly in time: u is a product of two functions of one coordinate,
    each advanced by the exponential of the differentiation matrix, whose eigenvectors are found once.

    Args:
        observation: which of ten observations is scored.
        samples: posterior samples to compare with as many of the reference.
    """

    checksum = "4cbcb6334d2a190b9594bba8131641ec6608dd83c2d6b32ae2e941c1c37dca44"
    parameters = (
        Variable("diffusivity", "m2/s"),
        Variable("x", "m", "place of the source"),
        Variable("y", "m", "place of the source"),
    )
    data = tuple(Variable(f"u_{i}_{j}", "K") for i in range(1, len(SENSORS) + 1) for j in range(1, len(TIMES) + 1))

    def prior(self) -> Prior:
        low, high, middle = (torch.tensor(v, dtype=torch.float64) for v in (0.2, 0.8, math.log(0.1)))
        place = torch.distributions.Uniform(low, high)
        return Prior([torch.distributions.LogNormal(middle, 0.5), place, place])

    def temperature(self, theta: Tensor) -> Tensor:
        """Return u at each sensor and time, shape (n, sensors, times)."""
        nodes, rates, modes, weights = (part.to(theta) for part in self._plate)
        decay = torch.exp(rates * theta[:, :1, None] * theta.new_tensor(TIMES)[:, None])
        along = torch.ones_like(decay[:, :1, :1])
        for axis in range(2):
            released = torch.exp(-((nodes - theta[:, 1 + axis, None]) ** 2) / (2 * WIDTH**2))
            along = along * torch.einsum("sm,ntm,nm->nst", weights[axis], decay, released @ modes.T)
        return along

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return draw.normal(self.temperature(theta).reshape(len(theta), -1), NOISE)

    @cached_property
    def _plate(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Nodes, eigenvalues of the second derivative, values to modes, and modes to sensors along each axis."""
        line = chebyshev(0.0, 1.0, NODES)
        inner = line.nodes[1:-1]
        second = line.matrix(line.nodes, 2).toarray()[1:-1, 1:-1]
        values, vectors = map(np.real, np.linalg.eig(second))
        order = np.argsort(values)[::-1]
        values, vectors = values[order], vectors[:, order]
        at = np.stack([line.matrix(np.array(axis)).toarray()[:, 1:-1] @ vectors for axis in zip(*SENSORS, strict=True)])
        return tuple(torch.from_numpy(np.ascontiguousarray(a)) for a in (inner, values, np.linalg.inv(vectors), at))  # pyright: ignore[reportReturnType]
