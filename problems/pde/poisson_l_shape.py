"""Laplace's equation at a reentrant corner."""

import numpy as np

from sciml.pde.conditions import Boundary
from sciml.pde.fields import laplacian
from sciml.pde.geometry import Shape
from sciml.pde.solids import rectangle
from sciml.views.energy import Energy
from sciml.views.residual import Residual


def singular(x, y):
    """Return r^(2/3) sin(2θ/3), with θ from the positive x-axis and a cut through the quarter x > 0 > y."""
    radius = np.sqrt(x**2 + y**2)
    half = np.arctan((x + y) / (np.sqrt(2) * radius + y - x))  # of the angle from the axis of symmetry, θ = 3π/4
    return radius ** (2 / 3) * np.cos(4 * half / 3)


class PoissonLShape(Residual, Energy):
    """A harmonic function whose gradient is infinite at the inner corner of an L.

    u_xx + u_yy = 0 on (-1, 1)² without [0, 1] × [-1, 0],  u = 0 on the two edges at the inner corner,
    u = r^(2/3) sin(2θ/3) on the others

    The reference is that function, Im z^(2/3).
    Source: W. F. Mitchell, A Collection of 2D Elliptic Problems for Testing Adaptive Algorithms, NISTIR 7668
    (2010), problem 2.
    """

    reference_error = 1e-15

    def domain(self) -> Shape:
        return Shape(rectangle((-1, -1), (0, 1)) | rectangle((-1, 0), (1, 1)))

    def equations(self, u):
        return laplacian(u)

    def energy(self, u):
        return (u.x**2 + u.y**2) / 2

    def conditions(self):
        return (
            Boundary(lambda u: u, at=_inner, name="inner"),
            Boundary(lambda u, x, y: u - singular(x, y), at=lambda x, y: ~_inner(x, y), name="outer"),
        )

    def reference(self, points: np.ndarray) -> np.ndarray:
        x, y = points.T
        with np.errstate(invalid="ignore", divide="ignore"):
            value = singular(x, y)
        return np.where(np.hypot(x, y) > 0, value, 0.0)[:, None]


def _inner(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which points of the boundary lie on the edges at the inner corner."""
    return (abs(x) < 1) & (abs(y) < 1) & (x >= 0) & (y <= 0)
