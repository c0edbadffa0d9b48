"""Kovasznay's flow behind a grid."""

import numpy as np
import torch

from sciml.parameters import Positive
from sciml.pde.conditions import Boundary
from sciml.pde.domains import Box
from sciml.pde.fields import laplacian
from sciml.problem import Variable
from sciml.views.residual import Residual


class Kovasznay(Residual):
    """The steady wake of a grid in a stream, an exact solution of the Navier-Stokes equations.

    u u_x + v u_y + p_x = Δu / Re,  u v_x + v v_y + p_y = Δv / Re,  u_x + v_y = 0 on (-1/2, 1) × (-1/2, 3/2)

    with the velocity given on the boundary, but for u at the outflow x = 1, where p takes its place: velocities all
    around would leave p free by a constant, and have no solution unless they conserve mass to the last digit.
    The reference is the closed form
    ``u = 1 - e^{λx} cos(2πy)``, ``v = λ/(2π) e^{λx} sin(2πy)``, ``p = (1 - e^{2λx})/2``, where
    ``λ = Re/2 - √(Re²/4 + 4π²)``.
    Source: L. I. G. Kovasznay, Laminar flow behind a two-dimensional grid, Proc. Camb. Phil. Soc. 44 (1948),
    doi:10.1017/S0305004100023999; as a test of networks X. Jin et al., NSFnets (2020), arXiv 2003.06496.

    Args:
        reynolds: Re.
    """

    fields = (Variable("u"), Variable("v"), Variable("p"))
    reference_error = 1e-14

    def __init__(self, reynolds: Positive = 40.0) -> None:
        self.reynolds = reynolds

    @property
    def rate(self):
        """λ, at which the wake decays, in 1 / length."""
        return -4 * np.pi**2 / (self.reynolds / 2 + np.sqrt(self.reynolds**2 / 4 + 4 * np.pi**2))

    def domain(self) -> Box:
        return Box(x=(-0.5, 1), y=(-0.5, 1.5))

    def equations(self, u, v, p):
        return (
            u * u.x + v * u.y + p.x - laplacian(u) / self.reynolds,
            u * v.x + v * v.y + p.y - laplacian(v) / self.reynolds,
            u.x + v.y,
        )

    def conditions(self):
        turn, rate = 2 * torch.pi, self.rate
        stream = lambda u, x, y: u - 1 + torch.exp(rate * x) * torch.cos(turn * y)  # noqa: E731
        return (
            *(Boundary(stream, at=side, name="stream") for side in ({"x": -0.5}, {"y": -0.5}, {"y": 1.5})),
            Boundary(lambda v, x, y: v - rate / turn * torch.exp(rate * x) * torch.sin(turn * y), name="swirl"),
            Boundary(lambda p, x: p - (1 - torch.exp(2 * rate * x)) / 2, at={"x": 1}, name="outflow"),
        )

    def reference(self, points: np.ndarray) -> np.ndarray:
        x, y = points.T
        decay, turn = np.exp(self.rate * x), 2 * np.pi
        swirl = self.rate / turn * decay * np.sin(turn * y)
        return np.stack([1 - decay * np.cos(turn * y), swirl, (1 - decay**2) / 2], axis=1)
