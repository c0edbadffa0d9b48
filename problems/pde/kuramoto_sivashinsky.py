"""The Kuramoto-Sivashinsky equation in one dimension."""

from typing import Literal

import numpy as np
import torch

from sciml.parameters import Positive
from sciml.pde.conditions import Initial, Periodic
from sciml.pde.domains import Box

from ._marched import Marched


class KuramotoSivashinsky(Marched):
    """Long waves grow, steepen and feed short ones, which decay: cells that merge and split.

    u_t + α u u_x + β u_xx + γ u_xxxx = 0 on (a, b) × (0, 1],  u periodic in x

    start="sine": u(x, 0) = -sin(πx) on (-1, 1), regular with α, β, γ = 5, 1/2, 1/200;
    start="modulated": u(x, 0) = cos(x) (1 + sin(x)) on (0, 2π), chaotic with 100/16, 100/16², 100/16⁴.

    The references are marched in Fourier space; a second discretisation, in which rounding grows with the solution's
    instability, agrees with the regular one to 2e-9 and with the chaotic one to 3e-6.
    Source: S. Wang, S. Sankaran, P. Perdikaris, Respecting causality is all you need for training physics-informed
    neural networks, 2022, arXiv 2203.07404; for the regular data S. Wang et al., An expert's guide to training
    physics-informed neural networks, 2023, arXiv 2308.08468.

    Args:
        advection: α.
        growth: β, of long waves.
        damping: γ, of short waves.
        start: the initial values and their period.
    """

    reference_error = 2e-9
    stored = (
        ("kuramoto_sivashinsky.h5", "7a191bf9888826e96a977bd3d348b8d964e9bbdc009d00422a7f22eed53806c3"),
        ("kuramoto_sivashinsky_chaotic.h5", "9840e389998d0d0caea266f894ddf9947afac8c9c440639916baa89a30cfd8bf"),
    )

    def __init__(
        self,
        advection: float = 5.0,
        growth: float = 0.5,
        damping: Positive = 0.005,
        start: Literal["sine", "modulated"] = "sine",
    ) -> None:
        self.advection = advection
        self.growth = growth
        self.damping = damping
        self.start = start
        if start == "modulated":
            self.reference_error = 3e-6

    def domain(self) -> Box:
        return Box(x=(-1, 1) if self.start == "sine" else (0, 2 * np.pi), t=(0, 1))

    def equations(self, u):
        return u.t + self.advection * u * u.x + self.growth * u.xx + self.damping * u.xxxx

    def conditions(self):
        if self.start == "sine":
            return (Initial(lambda u, x: u + torch.sin(np.pi * x)), Periodic("x"))
        return (Initial(lambda u, x: u - torch.cos(x) * (1 + torch.sin(x))), Periodic("x"))
