"""The advection equation in one dimension."""

import numpy as np
import torch

from sciml.pde.conditions import Initial, Periodic
from sciml.pde.domains import Box
from sciml.views.residual import Residual


class Advection(Residual):
    """A sine wave travels around a ring, eight times at the default speed.

    u_t + c u_x = 0 on (0, 2π) × (0, 1],  u(x, 0) = sin x,  u periodic in x

    The reference is the closed form ``sin(x - ct)``, exact to the rounding of the phase.
    Source: A. S. Krishnapriyan et al., Characterizing possible failure modes in physics-informed neural networks,
    NeurIPS (2021), arXiv 2109.01050.

    Args:
        speed: c, in length / time.
    """

    reference_error = 1e-14

    def __init__(self, speed: float = 50.0) -> None:
        self.speed = speed

    def domain(self) -> Box:
        return Box(x=(0, 2 * np.pi), t=(0, 1))

    def equations(self, u):
        return u.t + self.speed * u.x

    def conditions(self):
        return (Initial(lambda u, x: u - torch.sin(x)), Periodic("x"))

    def reference(self, points: np.ndarray) -> np.ndarray:
        x, t = points.T
        return np.sin(x - self.speed * t)[:, None]
