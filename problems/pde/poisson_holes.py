"""Laplace's equation on a square plate with four round holes."""

from functools import cache

import numpy as np

from sciml.pde.conditions import Boundary
from sciml.pde.fields import laplacian
from sciml.pde.geometry import Shape
from sciml.pde.solids import disk, rectangle
from sciml.views.energy import Energy
from sciml.views.residual import Residual

CENTER, RADIUS, EDGE = 0.3, 0.1, 0.5
DEGREE, POLES, SAMPLES = 40, 25, 200


class PoissonHoles(Residual, Energy):
    """A plate is held at one along its edge and at zero around four holes.

    u_xx + u_yy = 0 on (-1/2, 1/2)² without four disks of radius 0.1 about (±0.3, ±0.3),
    u = 1 on the square, u = 0 on the circles

    The reference is the sum of a polynomial in z⁴, logarithms at the centres of the holes and inverse powers
    about them, all with the symmetry of the plate, fitted to the boundary values by least squares. It is
    harmonic, so that the greatest error is that on the boundary: 2e-14 between the points of the fit.
    Sources: Z. Hao et al., PINNacle, 2023, arXiv 2306.08827 (Poisson2d-C); L. N. Trefethen, Series solution of
    Laplace problems, 2018, arXiv 1803.00973.
    """

    reference_error = 1e-13

    def domain(self) -> Shape:
        solid = rectangle((-EDGE, -EDGE), (EDGE, EDGE))
        for x in (-CENTER, CENTER):
            for y in (-CENTER, CENTER):
                solid = solid - disk((x, y), RADIUS)
        return Shape(solid)

    def equations(self, u):
        return laplacian(u)

    def energy(self, u):
        return (u.x**2 + u.y**2) / 2

    def conditions(self):
        return (
            Boundary(lambda u: u - 1, at=_outer, name="edge"),
            Boundary(lambda u: u, at=lambda x, y: ~_outer(x, y), name="holes"),
        )

    def reference(self, points: np.ndarray) -> np.ndarray:
        return (_basis(points @ (1, 1j)) @ _coefficients())[:, None]


def _outer(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which points of the boundary lie on the square."""
    return np.maximum(abs(x), abs(y)) > EDGE - 1e-9


def _basis(z: np.ndarray) -> np.ndarray:
    """Return harmonic functions with the symmetry of the plate, shape (n, functions)."""
    center = CENTER * (1 + 1j)
    turned = z[:, None] * 1j ** np.arange(4)
    from_center = (turned - center) * np.conj(center) / abs(center)
    inverse = np.cumprod(np.broadcast_to((RADIUS / from_center)[..., None], (*turned.shape, POLES)), axis=-1)
    powers = np.cumprod(np.tile((z / (EDGE * np.sqrt(2)))[:, None] ** 4, DEGREE), axis=1)
    logarithm = np.log(abs(from_center)).sum(axis=1)
    return np.column_stack([np.ones(len(z)), powers.real, logarithm, inverse.real.sum(axis=1)])


@cache
def _coefficients() -> np.ndarray:
    """Fit the functions to the boundary values on one eighth of the plate."""
    cosine = np.cos(np.pi * (np.arange(SAMPLES) + 0.5) / SAMPLES)
    edge = EDGE + 0.5j * EDGE * (1 + cosine)
    circle = CENTER * (1 + 1j) + RADIUS * np.exp(1j * np.pi * (0.75 + cosine / 2))
    functions = _basis(np.concatenate([edge, circle]))
    size = abs(functions).max(axis=0)
    return np.linalg.lstsq(functions / size, np.repeat([1.0, 0.0], SAMPLES), rcond=1e-15)[0] / size
