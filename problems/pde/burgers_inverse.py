"""The coefficients of Burgers' equation from velocities."""

import numpy as np
import torch

from sciml.parameters import Count, NonNegative, Positive
from sciml.pde.conditions import Boundary, Initial, Observed
from sciml.pde.domains import Box
from sciml.views.residual import Residual, Unknown

from ._cole_hopf import cole_hopf


class BurgersInverse(Residual):
    """A sine wave steepens into a shock; velocities at scattered points tell how fast, and how wide it is.

    u_t + λ u u_x = ν u_xx on (-1, 1) × (0, 1],  u(x, 0) = -sin(πx),  u(±1, t) = 0,  u(xᵢ, tᵢ) = dᵢ;  λ, ν are sought

    The reference is the Cole-Hopf formula at time λt with viscosity ν/λ, and the true numbers. Points are uniform
    on the domain; the noise is Gaussian and independent.
    Source: M. Raissi, P. Perdikaris, G. E. Karniadakis, Physics-informed neural networks, J. Comput. Phys. 378
    (2019), doi:10.1016/j.jcp.2018.10.045, whose noise is 0.01 of the standard deviation of u, 0.0062.

    Args:
        viscosity: the true ν, in length² / time.
        steepening: the true λ.
        measurements: number of points.
        noise: standard deviation of the noise, in the unit of u.
        draw: seed of points and noise.
    """

    primary = "relative_l2_viscosity"
    thresholds = (1e-2, 1e-4, 1e-6, 1e-8)
    unknowns = (Unknown("viscosity", guess=0.01), Unknown("steepening", guess=0.5))
    reference_error = 1e-13

    def __init__(
        self,
        viscosity: Positive = 0.01 / np.pi,
        steepening: Positive = 1.0,
        measurements: Count = 500,
        noise: NonNegative = 0.0,
        draw: Count = 1,
    ) -> None:
        self.viscosity = viscosity
        self.steepening = steepening
        self.measurements = measurements
        self.noise = noise
        self.draw = draw

    def domain(self) -> Box:
        return Box(x=(-1, 1), t=(0, 1))

    def equations(self, u):
        return u.t + self.steepening * u * u.x - self.viscosity * u.xx

    def conditions(self):
        rng = np.random.default_rng(self.draw)
        low, high = self.region.bounds.T
        points = rng.uniform(low, high, (self.measurements, 2))
        values = self.reference(points)[:, 0] + self.noise * rng.standard_normal(len(points))
        start = Initial(lambda u, x: u + torch.sin(torch.pi * x))
        return (start, Boundary(lambda u: u), Observed("u", points, values))

    def reference(self, points: np.ndarray) -> np.ndarray:
        return cole_hopf(points * [1.0, self.steepening], self.viscosity / self.steepening)[:, None]
