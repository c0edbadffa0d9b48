"""The heat equation in one dimension."""

import numpy as np
import torch

from sciml.parameters import Positive
from sciml.pde.conditions import Boundary, Initial
from sciml.pde.domains import Box
from sciml.views.residual import Residual


class Heat(Residual):
    """Heat diffuses along a rod whose ends are kept cold.

    u_t = κ u_xx on (0, 1) × (0, 1],  u(x, 0) = sin(πx),  u(0, t) = u(1, t) = 0

    The reference is the closed form ``exp(-κπ²t) sin(πx)``, exact to rounding.
    Source: J. Fourier, Théorie analytique de la chaleur, 1822.

    Args:
        diffusivity: κ, in length² / time.
    """

    reference_error = 1e-15

    def __init__(self, diffusivity: Positive = 0.1) -> None:
        self.diffusivity = diffusivity

    def domain(self) -> Box:
        return Box(x=(0, 1), t=(0, 1))

    def equations(self, u):
        return u.t - self.diffusivity * u.xx

    def conditions(self):
        return (Initial(lambda u, x: u - torch.sin(torch.pi * x)), Boundary(lambda u: u))

    def reference(self, points: np.ndarray) -> np.ndarray:
        x, t = points.T
        return (np.exp(-self.diffusivity * np.pi**2 * t) * np.sin(np.pi * x))[:, None]
