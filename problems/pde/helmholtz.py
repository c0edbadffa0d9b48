"""The Helmholtz equation on a square."""

import numpy as np
import torch

from sciml.parameters import Count
from sciml.pde.conditions import Boundary
from sciml.pde.domains import Box
from sciml.pde.fields import laplacian
from sciml.views.residual import Residual


class Helmholtz(Residual):
    """A standing wave, longer along one axis than along the other, is driven in a box with u = 0 on its walls.

    Δu + k² u = (k² - (a₁² + a₂²) π²) sin(a₁πx) sin(a₂πy) on (-1, 1)²,  u = 0 on the boundary

    The reference is the closed form ``sin(a₁πx) sin(a₂πy)`` from which the source is made.
    Source: S. Wang, Y. Teng, P. Perdikaris, Understanding and mitigating gradient pathologies in physics-informed
    neural networks (2020), arXiv 2001.04536.

    Args:
        wavenumber: k, in 1 / length; resonant where 4k²/π² is a sum of two squares of whole numbers above 0.
        waves_x: a₁, waves along x.
        waves_y: a₂, waves along y.
    """

    reference_error = 1e-14

    def __init__(self, wavenumber: float = 1.0, waves_x: Count = 1, waves_y: Count = 4) -> None:
        self.wavenumber = wavenumber
        self.waves_x = waves_x
        self.waves_y = waves_y

    def domain(self) -> Box:
        return Box(x=(-1, 1), y=(-1, 1))

    def equations(self, u, x, y):
        a, b, k = torch.pi * self.waves_x, torch.pi * self.waves_y, self.wavenumber
        return laplacian(u) + k**2 * u - (k**2 - a**2 - b**2) * torch.sin(a * x) * torch.sin(b * y)

    def conditions(self):
        return (Boundary(lambda u: u),)

    def reference(self, points: np.ndarray) -> np.ndarray:
        x, y = np.pi * points.T
        return (np.sin(self.waves_x * x) * np.sin(self.waves_y * y))[:, None]
