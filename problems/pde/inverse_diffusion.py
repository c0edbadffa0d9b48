"""The diffusivity of a rod from its temperatures."""

import numpy as np
import torch

from sciml.parameters import Count, NonNegative, Positive
from sciml.pde.conditions import Boundary, Initial, Observed
from sciml.pde.domains import Box
from sciml.views.residual import Residual, Unknown


class InverseDiffusion(Residual):
    """Heat diffuses along a rod whose ends are kept cold; how fast is told by temperatures at scattered points.

    u_t = κ u_xx on (0, 1) × (0, 1],  u(x, 0) = sin(πx),  u(0, t) = u(1, t) = 0,  u(xᵢ, tᵢ) = dᵢ;  κ is sought

    The reference is the closed form ``exp(-κπ²t) sin(πx)``, exact to rounding, and the true κ. Points are uniform
    on the domain; the noise is Gaussian and independent.
    Source: as a test of networks M. Raissi, P. Perdikaris, G. E. Karniadakis, Physics-informed neural networks,
    J. Comput. Phys. 378 (2019), doi:10.1016/j.jcp.2018.10.045.

    Args:
        diffusivity: the true κ, in length² / time.
        measurements: number of points.
        noise: standard deviation of the noise, in the unit of u.
        draw: seed of points and noise.
    """

    primary = "relative_l2_diffusivity"
    thresholds = (1e-2, 1e-4, 1e-6, 1e-8)
    unknowns = (Unknown("diffusivity", guess=1.0),)
    reference_error = 1e-15

    def __init__(
        self, diffusivity: Positive = 0.1, measurements: Count = 50, noise: NonNegative = 0.0, draw: Count = 1
    ) -> None:
        self.diffusivity = diffusivity
        self.measurements = measurements
        self.noise = noise
        self.draw = draw

    def domain(self) -> Box:
        return Box(x=(0, 1), t=(0, 1))

    def equations(self, u):
        return u.t - self.diffusivity * u.xx

    def conditions(self):
        rng = np.random.default_rng(self.draw)
        points = rng.random((self.measurements, 2))
        values = self.reference(points)[:, 0] + self.noise * rng.standard_normal(len(points))
        start = Initial(lambda u, x: u - torch.sin(torch.pi * x))
        return (start, Boundary(lambda u: u), Observed("u", points, values))

    def reference(self, points: np.ndarray) -> np.ndarray:
        x, t = points.T
        return (np.exp(-self.diffusivity * np.pi**2 * t) * np.sin(np.pi * x))[:, None]
