"""The Poisson equation on the unit square."""

import numpy as np
import torch

from sciml.parameters import Count
from sciml.pde.conditions import Boundary
from sciml.pde.domains import Box
from sciml.pde.fields import laplacian
from sciml.views.energy import Energy
from sciml.views.residual import Residual


class Poisson2D(Residual, Energy):
    """A membrane under a load of one long wave, and of a short one where its amplitude is not zero.

    -Δu = 2π² sin(πx) sin(πy) + 2a(kπ)² sin(kπx) sin(kπy) on (0, 1)²,  u = 0 on the boundary

    The reference is the closed form ``sin(πx) sin(πy) + a sin(kπx) sin(kπy)`` from which the load is made.

    Args:
        amplitude: a, of the short wave.
        waves: k, half waves of the short wave in each direction.
    """

    reference_error = 1e-14

    def __init__(self, amplitude: float = 0.0, waves: Count = 16) -> None:
        self.amplitude = amplitude
        self.waves = waves

    def domain(self) -> Box:
        return Box(x=(0, 1), y=(0, 1))

    def equations(self, u, x, y):
        return -laplacian(u) - self.load(x, y)

    def energy(self, u, x, y):
        return (u.x**2 + u.y**2) / 2 - self.load(x, y) * u

    def load(self, x, y):
        pi, k = torch.pi, self.waves
        long, short = torch.sin(pi * x) * torch.sin(pi * y), torch.sin(k * pi * x) * torch.sin(k * pi * y)
        return 2 * pi**2 * (long + self.amplitude * k**2 * short)

    def conditions(self):
        return (Boundary(lambda u: u),)

    def reference(self, points: np.ndarray) -> np.ndarray:
        long, short = (np.sin(k * np.pi * points).prod(axis=1) for k in (1, self.waves))
        return (long + self.amplitude * short)[:, None]
