"""The heat equation on a square whose conductivity and whose waves are far from isotropic."""

import numpy as np
import torch

from sciml.parameters import Count, Positive
from sciml.pde.conditions import Boundary, Initial
from sciml.pde.domains import Box
from sciml.views.residual import Residual


class Heat2D(Residual):
    """Stripes that are narrow along x, where heat hardly moves, fade along y, where it moves fast.

    u_t = κ₁ u_xx + κ₂ u_yy on (0, 1)² × (0, 5],  u(x, y, 0) = sin(kπx) sin(πy),  u = 0 on the boundary

    The reference is the closed form ``exp(-(κ₁k² + κ₂)π²t) sin(kπx) sin(πy)``, exact to rounding.
    Source: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks for solving
    PDEs (2023), arXiv 2306.08827, multi-scale heat.

    Args:
        diffusivity_x: κ₁, in length² / time.
        diffusivity_y: κ₂, in length² / time.
        waves: k, half waves along x.
    """

    reference_error = 1e-14

    def __init__(
        self,
        diffusivity_x: Positive = 1 / (500 * np.pi) ** 2,
        diffusivity_y: Positive = 1 / np.pi**2,
        waves: Count = 20,
    ) -> None:
        self.diffusivity_x = diffusivity_x
        self.diffusivity_y = diffusivity_y
        self.waves = waves

    def domain(self) -> Box:
        return Box(x=(0, 1), y=(0, 1), t=(0, 5))

    def equations(self, u):
        return u.t - self.diffusivity_x * u.xx - self.diffusivity_y * u.yy

    def conditions(self):
        stripes = lambda x, y: torch.sin(self.waves * torch.pi * x) * torch.sin(torch.pi * y)  # noqa: E731
        return (Initial(lambda u, x, y: u - stripes(x, y)), Boundary(lambda u: u))

    def reference(self, points: np.ndarray) -> np.ndarray:
        x, y, t = points.T
        rate = np.pi**2 * (self.diffusivity_x * self.waves**2 + self.diffusivity_y)
        return (np.exp(-rate * t) * np.sin(self.waves * np.pi * x) * np.sin(np.pi * y))[:, None]

    def evaluation_grid(self) -> dict[str, np.ndarray]:
        """Return a grid that is finer along x, where there are the most waves."""
        counts = {"x": 201, "y": 21, "t": 21}
        ends = dict(zip(counts, self.region.bounds, strict=True))
        return {a: np.linspace(ends[a][0], ends[a][1], count) for a, count in counts.items()}
