"""The viscous Burgers equation in one dimension."""

import numpy as np
import torch

from sciml.parameters import Positive
from sciml.pde.conditions import Boundary, Initial
from sciml.pde.domains import Box
from sciml.views.residual import Residual

SPACING = 0.1
DECAY = 7.0
BLOCK = 2048


class Burgers(Residual):
    """A sine wave steepens into a standing shock at x = 0, as wide as the viscosity.

    u_t + u u_x = ν u_xx on (-1, 1) × (0, 1],  u(x, 0) = -sin(πx),  u(±1, t) = 0

    The reference is the Cole-Hopf formula, a mean of ``-sin(π(x - η))`` over η with weight
    ``exp(-cos(π(x - η)) / (2πν) - η² / (4νt))``, by the trapezoidal rule in ``s = η / (2√(νt))``. The
    exponent is entire in s with curvature at most 2 + 2πt, so steps of 0.1 leave no error above rounding;
    beyond |η| = t it falls at least as fast as a Gaussian, which bounds the tails. Exponents near 1/(2πν)
    cost as many units in the last place: 1e-13 for the default. Below ν = 1e-4 the rounding grows in
    proportion.
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
        blocks = [points[k : k + BLOCK] for k in range(0, len(points), BLOCK)]
        return np.concatenate([self._cole_hopf(*b.T) for b in blocks])[:, None]

    def _cole_hopf(self, x: np.ndarray, t: np.ndarray) -> np.ndarray:
        reach = np.sqrt(t.max() / (4 * self.viscosity)) + DECAY
        s = SPACING * np.arange(-np.ceil(reach / SPACING), np.ceil(reach / SPACING) + 1)
        start = np.pi * (x[:, None] - 2 * np.sqrt(self.viscosity * t)[:, None] * s)
        exponent = -np.cos(start) / (2 * np.pi * self.viscosity) - s**2
        weight = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        return -(weight * np.sin(start)).sum(axis=1) / weight.sum(axis=1)
