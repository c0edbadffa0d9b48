"""The stiffness of a membrane from its deflection."""

from typing import Any

import numpy as np
import torch

from sciml.parameters import Count, NonNegative
from sciml.pde.conditions import Boundary, Observed
from sciml.pde.domains import Box
from sciml.pde.fields import divergence, grad
from sciml.problem import Variable
from sciml.views.residual import Residual, grid_points


class InverseField(Residual):
    """A membrane bends under a known load; how stiff it is, and where, is told by its deflection on a grid.

    -∇·(a ∇u) = f on (0, 1)²,  u = 0 and a given on the boundary,  u(xᵢ, yᵢ) = dᵢ;  the field a > 0 is sought

    Along the lines of steepest ascent of u the equation is one of first order for a, and all of these begin on the
    boundary, so u and a there identify a. The reference is ``u = sin(πx) sin(πy)`` and
    ``1/a = 1 + x² + y² + (x - 1)² + (y - 1)²``, from which f is made; the noise is Gaussian and independent.
    Source: Z. Hao et al., PINNacle: A comprehensive benchmark of physics-informed neural networks for solving
    PDEs (2023), arXiv 2306.08827, inverse Poisson, where the noise is 0.1.

    Args:
        measurements: number of points along each axis, the boundary included.
        noise: standard deviation of the noise, in the unit of u.
        draw: seed of the noise.
    """

    primary = "relative_l2_a"
    thresholds = (1e-1, 1e-2, 1e-4)
    fields = (Variable("u"), Variable("a"))
    reference_error = 1e-14

    def __init__(self, measurements: Count = 50, noise: NonNegative = 0.0, draw: Count = 1) -> None:
        self.measurements = measurements
        self.noise = noise
        self.draw = draw

    def domain(self) -> Box:
        return Box(x=(0, 1), y=(0, 1))

    def equations(self, u, a, x, y):
        bent: Any = torch.sin(torch.pi * x) * torch.sin(torch.pi * y)
        stiff = _stiffness(x, y)
        return divergence([a * slope - stiff * known for slope, known in zip(grad(u), grad(bent), strict=True)])

    def conditions(self):
        line = np.linspace(0, 1, self.measurements)
        points = grid_points({"x": line, "y": line})
        noise = self.noise * np.random.default_rng(self.draw).standard_normal(len(points))
        edge = Boundary(lambda a, x, y: a - _stiffness(x, y), name="edge")
        return (Boundary(lambda u: u), edge, Observed("u", points, self.reference(points)[:, 0] + noise))

    def reference(self, points: np.ndarray) -> np.ndarray:
        return np.stack([np.sin(np.pi * points).prod(axis=1), _stiffness(*points.T)], axis=1)


def _stiffness(x, y):
    return 1 / (1 + x**2 + y**2 + (x - 1) ** 2 + (y - 1) ** 2)
