"""The wave equation in one dimension."""

import numpy as np
import torch

from sciml.parameters import Positive
from sciml.pde.conditions import Boundary, Initial
from sciml.pde.domains import Box
from sciml.views.residual import Residual


class Wave(Residual):
    """A plucked string with fixed ends swings in its first and fourth mode.

    u_tt = c² u_xx on (0, 1) × (0, 1],  u(x, 0) = sin(πx) + sin(4πx)/2,  u_t(x, 0) = 0,  u(0, t) = u(1, t) = 0

    The reference is the closed form ``sin(πx) cos(cπt) + sin(4πx) cos(4cπt)/2``, exact to rounding.
    Source: J. d'Alembert, Recherches sur la courbe que forme une corde tendue mise en vibration, 1747; as a test of
    networks Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks for solving
    PDEs (2023), arXiv 2306.08827.

    Args:
        speed: c, in length / time.
    """

    reference_error = 1e-14

    def __init__(self, speed: Positive = 2.0) -> None:
        self.speed = speed

    def domain(self) -> Box:
        return Box(x=(0, 1), t=(0, 1))

    def equations(self, u):
        return u.tt - self.speed**2 * u.xx

    def conditions(self):
        pluck = Initial(lambda u, x: u - torch.sin(torch.pi * x) - 0.5 * torch.sin(4 * torch.pi * x))
        return (pluck, Initial(lambda u: u.t, name="at_rest"), Boundary(lambda u: u))

    def reference(self, points: np.ndarray) -> np.ndarray:
        x, t = np.pi * points.T
        first = np.sin(x) * np.cos(self.speed * t)
        return (first + 0.5 * np.sin(4 * x) * np.cos(4 * self.speed * t))[:, None]
