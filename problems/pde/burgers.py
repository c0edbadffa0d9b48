"""The viscous Burgers equation in one dimension."""

import numpy as np
import torch

from sciml.parameters import Positive
from sciml.pde.conditions import Boundary, Initial
from sciml.pde.domains import Box
from sciml.views.residual import Residual

from ._cole_hopf import cole_hopf


class Burgers(Residual):
    """A sine wave steepens into a standing shock at x = 0, as wide as the viscosity.

    u_t + u u_x = ν u_xx on (-1, 1) × (0, 1],  u(x, 0) = -sin(πx),  u(±1, t) = 0

    The reference is the Cole-Hopf formula by quadrature, exact to rounding: 1e-13 for the default.
    Source: C. Basdevant et al., Spectral and finite difference solutions of the Burgers equation, Computers &
    Fluids 14 (1986), doi:10.1016/0045-7930(86)90036-8; as a test of networks M. Raissi, P. Perdikaris, G. E.
    Karniadakis, Physics-informed neural networks, J. Comput. Phys. 378 (2019), doi:10.1016/j.jcp.2018.10.045.

    Args:
        viscosity: ν, in length² / time.
    """

    reference_error = 1e-13

    def __init__(self, viscosity: Positive = 0.01 / np.pi) -> None:
        self.viscosity = viscosity

    def domain(self) -> Box:
        return Box(x=(-1, 1), t=(0, 1))

    def equations(self, u):
        return u.t + u * u.x - self.viscosity * u.xx

    def conditions(self):
        return (Initial(lambda u, x: u + torch.sin(torch.pi * x)), Boundary(lambda u: u))

    def reference(self, points: np.ndarray) -> np.ndarray:
        return cole_hopf(points, self.viscosity)[:, None]
