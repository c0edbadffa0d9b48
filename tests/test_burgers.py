"""The Cole-Hopf reference of Burgers' equation, and the classical solver against it."""

import time

import mpmath
import numpy as np
import pytest

import sciml
from problems.pde.burgers import Burgers
from solvers.pde.spectral import Spectral

POINTS = np.array(
    [
        [0, 1],
        [1e-4, 0.5],
        [2e-3, 0.32],
        [-4e-3, 0.6],
        [0.01, 0.4],
        [0.05, 0.9],
        [0.5, 0.1],
        [0.99, 1],
        [-0.7, 1e-3],
        [0.3, 0],
    ]
)


def by_bessel_series(x: float, t: float, viscosity: float) -> float:
    """The solution as a ratio of Fourier series with Bessel coefficients, in 90 digits since they cancel."""
    with mpmath.workdps(90):
        x, t, nu = map(mpmath.mpf, (float(x), float(t), viscosity))
        z = 1 / (2 * mpmath.pi * nu)
        total, slope, n, a = mpmath.besseli(0, z), mpmath.mpf(0), 0, mpmath.mpf(1)
        while abs(a) > mpmath.mpf(10) ** -60:
            n += 1
            a = 2 * (-1) ** n * mpmath.besseli(n, z) * mpmath.exp(-nu * (n * mpmath.pi) ** 2 * t)
            total += a * mpmath.cos(n * mpmath.pi * x)
            slope -= a * n * mpmath.pi * mpmath.sin(n * mpmath.pi * x)
        return float(-2 * nu * slope / total)


@pytest.mark.parametrize("viscosity", [0.01 / np.pi, 0.1])
def test_quadrature_agrees_with_the_bessel_series(viscosity):
    problem = Burgers(viscosity)
    series = np.array([by_bessel_series(x, t, viscosity) for x, t in POINTS])
    assert np.abs(problem.reference(POINTS)[:, 0] - series).max() < Burgers.reference_error


def test_reference_is_exact_at_the_start_and_odd():
    x = np.linspace(-1, 1, 101)
    start = np.stack([x, np.zeros_like(x)], axis=1)
    assert np.abs(Burgers().reference(start)[:, 0] + np.sin(np.pi * x)).max() < 1e-14
    later = np.stack([x, np.full_like(x, 0.7)], axis=1)
    values = Burgers().reference(later)
    assert np.abs(values + values[::-1]).max() < 1e-13


@pytest.mark.parametrize("viscosity", [1e-4, 1e-3, 10.0])
def test_reference_neither_overflows_nor_vanishes(viscosity):
    values = Burgers(viscosity).reference(np.array([[0.25, 0.5], [1e-5, 1.0], [-0.5, 1e-12]]))
    assert np.isfinite(values).all()
    assert values[2] == pytest.approx(1.0, abs=1e-9)


def test_greatest_slope_is_that_of_the_literature():
    """|u_x| at x = 0 reaches 152.00516 at πt = 1.6037 (Basdevant et al. 1986)."""
    step = 1e-5
    times = np.linspace(1.55, 1.65, 201) / np.pi
    slopes = -Burgers().reference(np.stack([np.full_like(times, step), times], axis=1))[:, 0] / step
    assert slopes.max() == pytest.approx(152.00516, abs=2e-3)
    assert np.pi * times[slopes.argmax()] == pytest.approx(1.6037, abs=1e-3)


def test_reference_is_vectorised():
    problem = Burgers()
    begin = time.process_time()
    points, _ = problem.evaluation
    assert len(points) == 201 * 201
    assert time.process_time() - begin < 5


def test_spectral_solves_burgers_to_its_tolerance():
    problem = Burgers()
    solution = sciml.solve(problem, Spectral(tolerance=1e-8))
    assert solution.notes["tolerance_met"] == "yes"
    scores = problem.score(solution)
    assert scores["relative_l2"] < 1e-9
    assert scores["max_error"] < float(solution.notes["estimated_error"])
    near = np.stack([np.linspace(-0.01, 0.01, 401), np.full(401, 0.5105)], axis=1)
    assert np.abs(solution(near) - problem.reference(near)).max() < 1e-8


def test_golden_burgers():
    assert Burgers().reference(np.array([[0.01, 0.4]]))[0, 0] == pytest.approx(-0.769245679323724, abs=1e-14)
