"""The Allen-Cahn equation in one dimension."""

from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Interval
from scipy.special import erf

from sciml.parameters import Positive
from sciml.pde.conditions import Initial, Periodic
from sciml.pde.domains import Box
from sciml.views.residual import Residual

from ._marched import Marched

TINY = 1e-150
"""Keeps the width of a kink positive at the start."""


class AllenCahn(Marched):
    """A smooth start separates into phases u = ±1, with layers of width √(2ν/c) between them.

    u_t = ν u_xx + c (u - u³) on (-1, 1) × (0, 1],  u(x, 0) = x² cos(πx),  u periodic in x

    The initial values have a kink where the period closes, so their Fourier series converges slowly. The kink
    spreads, to leading order, by the equation linearised at u = -1 there, which has a closed form; only the smooth
    rest is marched in Fourier space; two discretisations agree on it to the stated error.
    Source: S. M. Allen and J. W. Cahn, A microscopic theory for antiphase boundary motion, Acta Metall. 27 (1979),
    doi:10.1016/0001-6160(79)90196-2; as a test of networks M. Raissi, P. Perdikaris, G. E. Karniadakis,
    Physics-informed neural networks, J. Comput. Phys. 378 (2019), doi:10.1016/j.jcp.2018.10.045.

    Args:
        diffusivity: ν, in length² / time; beyond 0.01 the closed form of the kink would need more images.
        reaction: c, in 1 / time.
    """

    reference_error = 4e-10
    tolerance = 1e-12
    stored = (("allen_cahn.h5", "0ba12e5560ac2b5c478acc5e4d95c4a2c53625a55de61957275878979dfe439f"),)

    def __init__(self, diffusivity: Annotated[float, Interval(gt=0, le=0.01)] = 1e-4, reaction: Positive = 5.0) -> None:
        self.diffusivity = diffusivity
        self.reaction = reaction

    def domain(self) -> Box:
        return Box(x=(-1, 1), t=(0, 1))

    def equations(self, u):
        return u.t - self.diffusivity * u.xx - self.reaction * (u - u**3)

    def conditions(self):
        return (Initial(lambda u, x: u - x**2 * torch.cos(np.pi * x)), Periodic("x"))

    def smooth(self) -> Residual:
        return _Smooth(self)

    def reference(self, points: np.ndarray) -> np.ndarray:
        return super().reference(points) + self.kink(*points.T)[:, None]

    def kink(self, x: Any, t: Any) -> Any:
        """Return the solution of ``w_t = ν w_xx - 2c w`` from ``w(x, 0) = -x²`` on (-1, 1), periodic in x."""
        width = np.sqrt(4 * self.diffusivity * t) + TINY
        ramps = 0
        for reach in (1, 3):
            for y in (x - reach, -x - reach):
                ramps = (
                    ramps + y * (1 + erf(y / width)) / 2 + width * np.exp(-((y / width) ** 2)) / (2 * np.sqrt(np.pi))
                )
        return -np.exp(-2 * self.reaction * t) * (x**2 + 2 * self.diffusivity * t - 4 * ramps)


class _Smooth(Residual):
    """What remains of an Allen-Cahn problem without its kink."""

    def __init__(self, whole: AllenCahn) -> None:
        self.whole = whole

    def domain(self) -> Box:
        return self.whole.domain()

    def equations(self, u, x, t):
        w, c = self.whole.kink(x, t), self.whole.reaction
        return u.t - self.whole.diffusivity * u.xx - c * ((u + w) - (u + w) ** 3) - 2 * c * w

    def conditions(self):
        return (Initial(lambda u, x: u - x**2 * (1 + torch.cos(np.pi * x))), Periodic("x"))

    def reference(self, points: np.ndarray) -> np.ndarray:
        return self.whole.reference(points) - self.whole.kink(*points.T)[:, None]
