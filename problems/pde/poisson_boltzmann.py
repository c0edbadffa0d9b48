"""The linear Poisson-Boltzmann equation on a square with four round holes."""

from functools import cache
from typing import Any

import numpy as np
from scipy import linalg
from scipy.special import erfc, i0e, k0e, k1e

from sciml.pde.conditions import Boundary
from sciml.pde.fields import laplacian
from sciml.pde.geometry import Shape
from sciml.pde.solids import disk, rectangle
from sciml.views.energy import Energy
from sciml.views.residual import Residual

HOLES = ((0.5, 0.5, 0.2), (0.4, -0.4, 0.4), (-0.2, -0.7, 0.1), (-0.6, 0.5, 0.3))
"""Centre and radius of each."""
DECAY = 8.0
EDGE, CIRCLES = 0.2, 1.0
DEGREE, ORDERS = 160, (60, 80, 30, 80)
"""Orders of the Bessel functions about the centre of the square, and about each hole."""
SAMPLES = 300
BLOCK = 4096


class PoissonBoltzmann(Residual, Energy):
    """A screened potential between charged disks.

    -(u_xx + u_yy) + 64 u = 10 (17 + x² + y²) sin(πx) sin(4πy) on (-1, 1)² without four disks,
    u = 0.2 on the square, u = 1 on the circles

    The reference is a sum of a particular solution; of the solution on the square without holes for its edge
    values, ``64 ∫ exp(-64 t) h(x, t) h(y, t) dt`` with the probability h that a Brownian motion stays in
    (-1, 1), by the trapezoidal rule in log t, which takes away the singularities at the corners; and of
    Bessel functions I_n about the origin and K_n about the holes, fitted to the remaining boundary values by
    least squares. All solve the equation, so that the greatest error is that on the boundary: 1e-12 between
    the points of the fit.
    Source: Z. Hao et al., PINNacle, 2023, arXiv 2306.08827 (PoissonBoltzmann2d).
    """

    reference_error = 2e-12

    def domain(self) -> Shape:
        solid = rectangle((-1, -1), (1, 1))
        for x, y, radius in HOLES:
            solid = solid - disk((x, y), radius)
        return Shape(solid)

    def equations(self, u, x, y):
        return -laplacian(u) + DECAY**2 * u - self.source(x, y)

    def energy(self, u, x, y):
        return (u.x**2 + u.y**2 + DECAY**2 * u**2) / 2 - self.source(x, y) * u

    def source(self, x, y):
        return 10 * (17 + x**2 + y**2) * np.sin(np.pi * x) * np.sin(4 * np.pi * y)

    def conditions(self):
        return (
            Boundary(lambda u: u - EDGE, at=_outer, name="edge"),
            Boundary(lambda u: u - CIRCLES, at=lambda x, y: ~_outer(x, y), name="holes"),
        )

    def reference(self, points: np.ndarray) -> np.ndarray:
        blocks = [points[k : k + BLOCK] for k in range(0, len(points), BLOCK)]
        values = [_known(*b.T) + _functions(*b.T) @ _coefficients() for b in blocks]
        return np.concatenate(values)[:, None]


def _outer(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return which points of the boundary lie on the square."""
    return np.maximum(abs(x), abs(y)) > 1 - 1e-9


def _known(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return a solution with the source that keeps the edge values at the corners, not on the holes."""
    return _particular(x, y) + EDGE * (1 - _screened(x, y))


def _particular(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    size = DECAY**2 + 17 * np.pi**2
    wave = np.sin(np.pi * x) * np.sin(4 * np.pi * y)
    slope_x = np.pi * np.cos(np.pi * x) * np.sin(4 * np.pi * y)
    slope_y = 4 * np.pi * np.sin(np.pi * x) * np.cos(4 * np.pi * y)
    constant = 17 + (4 - 136 * np.pi**2 / size) / size
    return 10 / size * ((constant + x**2 + y**2) * wave + 4 / size * (x * slope_x + y * slope_y))


def _screened(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Solve ``-Δg + 64 g = 64`` on the square, g = 0 on its edge."""
    step = 0.25
    times = np.exp(np.arange(-38, -0.4, step))
    weights = step * times * DECAY**2 * np.exp(-(DECAY**2) * times)
    return np.sum([w * _survival(x, t) * _survival(y, t) for w, t in zip(weights, times, strict=True)], axis=0)


def _survival(x: np.ndarray, t: float) -> np.ndarray:
    """Return the probability that a path from x, of variance 2t, has not left (-1, 1); by images."""
    scale = 2 * np.sqrt(t)
    images = [(-1) ** k * (erfc((2 * k + 1 - x) / scale) + erfc((2 * k + 1 + x) / scale)) for k in range(3)]
    return 1 - np.sum(images, axis=0)


def _functions(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return solutions without source, each at most one on the boundary, shape (n, functions)."""
    columns = _about(x + 1j * y, np.sqrt(2), DEGREE, _start_inner, _ratios_inner)
    for (a, b, radius), order in zip(HOLES, ORDERS, strict=True):
        columns += _about(x - a + 1j * (y - b), radius, order, _start_outer, _ratios_outer)
    both = np.stack(columns, axis=1)
    return np.concatenate([np.real(both), np.imag(both)], axis=1)


def _about(z: np.ndarray, radius: float, order: int, start, ratios) -> list[np.ndarray]:
    """Return ``B_n(8r) / B_n(8 radius) exp(inθ)`` for n up to the order, where B is I or K."""
    r, end = DECAY * abs(z), np.array([DECAY * radius])
    turn = np.exp(1j * np.angle(z))
    columns = [start(r, end) * np.ones_like(turn)]
    for ratio, at_end in zip(ratios(r, order), ratios(end, order), strict=True):
        columns.append(columns[-1] * turn * (ratio / at_end))
    return columns


def _start_inner(r: np.ndarray, end: np.ndarray) -> np.ndarray:
    return i0e(r) / i0e(end) * np.exp(r - end)


def _start_outer(r: np.ndarray, end: np.ndarray) -> np.ndarray:
    return k0e(r) / k0e(end) * np.exp(end - r)


def _ratios_inner(r: np.ndarray, order: int) -> list[np.ndarray]:
    """Return I_n / I_(n-1) for n from 1 on, by the recurrence downwards, which is stable."""
    r = np.maximum(r, 1e-300)
    found = [np.zeros_like(r)]
    for n in range(order + 30, 0, -1):
        found.append(1 / (2 * n / r + found[-1]))
    return found[: -order - 1 : -1]


def _ratios_outer(r: np.ndarray, order: int) -> list[np.ndarray]:
    """Return K_n / K_(n-1) for n from 1 on, by the recurrence upwards, which is stable."""
    found = [k1e(r) / k0e(r)]
    for n in range(1, order):
        found.append(2 * n / r + 1 / found[-1])
    return found


@cache
def _coefficients() -> np.ndarray:
    """Fit the functions to what the known part leaves of the boundary values."""
    x, y, values = boundary_values(SAMPLES)
    functions = _functions(x, y)
    found: Any = linalg.lstsq(functions, values - _known(x, y), cond=1e-15, lapack_driver="gelsy")
    return found[0]


def boundary_values(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return n points of each side and each circle, and the values of u there, each of shape (8 n,)."""
    along, ends = np.cos(np.pi * (np.arange(n) + 0.5) / n), np.ones(n)
    turn = np.exp(2j * np.pi * np.arange(n) / n)
    sides = [along + 1j * ends, along - 1j * ends, ends + 1j * along, -ends + 1j * along]
    circles = [a + 1j * b + radius * turn for a, b, radius in HOLES]
    z = np.concatenate(sides + circles)
    return np.real(z), np.imag(z), np.repeat([EDGE, CIRCLES], 4 * n)
