"""Random features marched in time on periodic boxes: exactness, tolerance, what is grown, stored and refused."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from sciml.clock import Clock
from sciml.errors import SolveError
from sciml.parameters import Positive
from sciml.pde.conditions import Boundary, Initial, Periodic
from sciml.pde.domains import Box
from sciml.pde.fields import laplacian
from sciml.pde.semilinear import Semilinear
from sciml.problem import Variable
from sciml.solver import Context
from sciml.training.settings import Training
from sciml.views.residual import Residual, Unknown
from solvers.pde._etdrk4 import Exponential
from solvers.pde._lines import FIRST, march, refusal
from solvers.pde._lines_answer import remake, state
from solvers.pde._lines_basis import Sines
from solvers.pde.rfm import RFM

PI, MOST = np.pi, 10**6


class Drift(Residual):
    """Advection and diffusion on a torus, linear: a wave of each axis drifts and decays."""

    def __init__(self, waves: int = 3) -> None:
        self.waves = waves

    def domain(self) -> Box:
        return Box(x=(0, 2 * PI), t=(0, 1), y=(-1, 1))

    def equations(self, u):
        return u.t + 2 * u.x - u.y - 0.02 * laplacian(u)

    def conditions(self):
        start = Initial(lambda u, x, y: u - torch.cos(self.waves * x) - torch.sin(PI * y) - 0.5)
        return (start, Periodic("x"), Periodic("y"))

    def reference(self, points):
        x, t, y = points.T
        along_x = np.exp(-0.02 * self.waves**2 * t) * np.cos(self.waves * (x - 2 * t))
        return (along_x + np.exp(-0.02 * PI**2 * t) * np.sin(PI * (y + t)) + 0.5)[:, None]


class Pulse(Residual):
    """Viscous advection by two fields with sources that make ``exp(sin(x - t) + cos y)`` and 1 the solution."""

    fields = (Variable("u"), Variable("v"))

    def __init__(self, viscosity: Positive = 0.1) -> None:
        self.viscosity = viscosity

    def domain(self) -> Box:
        return Box(x=(0, 2 * PI), y=(0, 2 * PI), t=(0, 1))

    def equations(self, u, v, x, y, t):
        s, c, r, q = torch.sin(x - t), torch.cos(x - t), torch.sin(y), torch.cos(y)
        whole = torch.exp(s + q)
        curvature = whole * (c**2 - s + r**2 - q)
        source = whole * (-c + c * whole - r) - self.viscosity * curvature
        return (
            u.t + u * u.x + v * u.y - self.viscosity * laplacian(u) - source,
            v.t + u * v.x + v * v.y - self.viscosity * laplacian(v),
        )

    def conditions(self):
        start = Initial(lambda u, x, y: u - torch.exp(torch.sin(x) + torch.cos(y)))
        return (start, Initial(lambda v: v - 1), Periodic("x"), Periodic("y"))

    def reference(self, points):
        x, y, t = points.T
        u = np.exp(np.sin(x - t) + np.cos(y))
        return np.stack([u, np.ones_like(u)], axis=1)


class Solid(Residual):
    """Diffusion in three dimensions."""

    def domain(self) -> Box:
        return Box(x=(0, 1), y=(0, 2), z=(-1, 1), t=(0, 1))

    def equations(self, u):
        return u.t - 0.01 * laplacian(u)

    def conditions(self):
        start = Initial(lambda u, x, y, z: u - torch.sin(2 * PI * x) * torch.cos(PI * y) * torch.sin(PI * z))
        return (start, *map(Periodic, "xyz"))

    def reference(self, points):
        x, y, z, t = points.T
        size = np.exp(-0.06 * PI**2 * t)
        return (size * np.sin(2 * PI * x) * np.cos(PI * y) * np.sin(PI * z))[:, None]


def error(problem, function):
    """Return the relative root mean square error at random points, the worst of the fields."""
    bounds = problem.region.bounds
    points = np.random.default_rng(7).uniform(*bounds.T, size=(500, len(bounds)))
    truth = problem.reference(points)
    return (np.linalg.norm(function(points) - truth, axis=0) / np.linalg.norm(truth, axis=0)).max()


def solved(problem, tolerance, seed=0, most=None, clock=None, coefficients=MOST):
    return march(problem, tolerance, seed, clock or Clock(Context()), coefficients, most)


def test_values_are_sums_of_sines_and_coefficients_are_least_squares():
    basis = Sines(Semilinear(Pulse()), [3, 2], 0)
    x, y = (basis.nodes[a].ravel() for a in "xy")
    angles = np.outer(x, basis.waves["x"]) + np.outer(y, basis.waves["y"])
    assert len(np.unique(np.concatenate([basis.numbers, -basis.numbers]), axis=0)) == basis.count
    rng = np.random.default_rng(0)
    c = rng.standard_normal(len(basis.numbers)) + 1j * rng.standard_normal(len(basis.numbers))
    c[~basis.numbers.any(axis=1)] = 0.7
    shown = basis.values(c[None])[0].ravel()
    np.testing.assert_allclose(shown, np.cos(angles) @ c.real - np.sin(angles) @ c.imag, atol=1e-13)
    data = rng.standard_normal(basis.nodes["x"].shape)
    fitted = np.linalg.lstsq(np.concatenate([np.cos(angles), -np.sin(angles)], axis=1), data.ravel(), rcond=None)[0]
    real, imaginary = np.split(fitted, 2)
    np.testing.assert_allclose(basis.coefficients(data[None])[0], real + 1j * imaginary, atol=1e-13)


def test_more_features_keep_what_is_known():
    basis = Sines(Semilinear(Pulse()), [8, 8], 0)
    c = basis.initial()
    finer = basis.finer(c, 0.0)
    assert basis.count < finer.count <= 2.5 * basis.count
    points = {a: x.ravel()[:5] for a, x in basis.nodes.items()}

    def at(basis, c):
        angles = sum(np.outer(points[a], basis.waves[a]) for a in points)
        return np.real(np.exp(1j * angles) @ c.T)

    np.testing.assert_allclose(at(finer, finer.adopt(c)), at(basis, c), atol=1e-13)


def test_the_residual_held_out_estimates_what_is_left_out():
    problem = Pulse()
    basis = Sines(Semilinear(problem), [6, 6], 0)
    finer = Sines(basis.system, [20, 20], 0)
    c, t = basis.initial(), 0.0
    missing = finer.values(finer.initial()) - finer.values(_on(finer, basis, c))
    actual = np.sqrt(np.mean(missing[0] ** 2))
    assert actual / 3 < basis.left_out(c, t)[0] < 100 * actual
    assert finer.left_out(finer.initial(), t)[0] < 1e-10


def _on(finer, basis, c):
    whole = np.zeros((len(c), len(finer.numbers)), dtype=complex)
    place = {tuple(n): i for i, n in enumerate(finer.numbers.tolist())}
    whole[:, [place[tuple(n)] for n in basis.numbers.tolist()]] = c
    return whole


def test_features_are_added_along_the_axis_that_needs_them():
    outcome = solved(Drift(waves=30), 1e-6)
    assert outcome.notes["bandwidth_x"] >= 30 * PI
    assert outcome.notes["bandwidth_y"] < 15 * PI
    assert error(Drift(waves=30), outcome.function) < 1e-6


@pytest.mark.parametrize("problem", [Drift(), Solid()], ids=["plane", "solid"])
def test_linear_problems_are_solved_to_a_small_tolerance(problem):
    outcome = solved(problem, 1e-9)
    assert error(problem, outcome.function) < 1e-9
    assert outcome.notes["tolerance_met"] == "yes"
    assert max(outcome.notes["held_out_residual"], outcome.notes["estimated_error"]) <= 1e-9


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6])
def test_the_error_is_within_the_tolerance(tolerance):
    problem = Pulse()
    outcome = solved(problem, tolerance)
    assert error(problem, outcome.function) < tolerance
    assert (outcome.notes["tolerance_met"], outcome.notes["stop_reason"]) == ("yes", "tolerance")
    assert error(problem, outcome.function) < outcome.notes["estimated_error"] <= tolerance


def test_each_march_is_more_accurate_than_the_last():
    problem = Pulse()
    errors = [error(problem, solved(problem, 1e-10, most=k).function) for k in (1, 3, 5)]
    assert errors[0] < FIRST
    assert all(fine < coarse / 10 for coarse, fine in pairwise(errors))


def test_few_moments_tell_the_march():
    problem = Pulse()
    made = Exponential(Sines(Semilinear(problem), [8, 8], 0), 1e-6, MOST).run(lambda done, values: None)
    arrays = state(made, 0)
    assert len(arrays["coefficients"]) < 8 * len(made.intervals) + 1
    function, basis = remake(problem, arrays), made.grid
    for interval in made.intervals[:: max(1, len(made.intervals) // 3)]:
        t = np.full(basis.nodes["x"].size, interval.end)
        points = np.stack([basis.nodes["x"].ravel(), basis.nodes["y"].ravel(), t], axis=1)
        marched = basis.values(basis.adopt(interval.coefficients[-1])).reshape(2, -1).T
        assert np.abs(function(points) - marched).max() < 1e-6 * np.abs(marched).max()


def test_phases_are_drawn_and_change_nothing():
    problem = Pulse()
    one, again, other = (solved(problem, 1e-3, seed, most=1) for seed in (1, 1, 2))
    assert all(np.array_equal(v, again.state[k]) for k, v in one.state.items())
    assert not np.array_equal(one.state["phases"], other.state["phases"])
    points = np.random.default_rng(0).uniform(0, 1, (50, 3))
    np.testing.assert_allclose(one.function(points), other.function(points), rtol=1e-10)
    assert np.array_equal(remake(problem, one.state)(points), one.function(points))


def test_rfm_marches_by_lines_and_restores():
    problem, solver = Drift(), RFM(tolerance=1e-6)
    solution = solver.solve(problem, Context(seed=3))
    assert "Fourier-Galerkin" in solution.notes["method"]
    points = np.random.default_rng(0).uniform(0, 1, (50, 3))
    assert np.array_equal(solver.restore(problem, solution.state)(points), solution(points))
    assert RFM(coefficients=256).solve(Pulse(), Context(training=Training(max_steps=1))).notes["marches"] == 1


class Limited(Clock):
    """Has time for so many marches."""

    def __init__(self, marches):
        super().__init__(Context())
        self.marches = marches

    @property
    def remaining(self):
        return math.inf if self.marches else 0.0

    def check(self):
        if not self.marches:
            raise SolveError("no time is left")

    def report(self, done, values):
        super().report(done, values)
        self.marches -= done == 1


def test_in_limited_time_the_best_march_is_the_answer():
    problem = Pulse()
    outcome = solved(problem, 1e-10, clock=Limited(2))
    assert np.array_equal(outcome.state["coefficients"], solved(problem, 1e-10, most=2).state["coefficients"])
    assert (outcome.notes["stop_reason"], outcome.notes["tolerance_met"]) == ("max_seconds", "no")
    with pytest.raises(SolveError, match="not solved within"):
        solved(problem, 1e-3, clock=Clock(Context(training=Training(max_seconds=1e-9))))


def test_too_few_coefficients_are_said():
    outcome = solved(Drift(waves=30), 1e-6, coefficients=300)
    assert (outcome.notes["stop_reason"], outcome.notes["tolerance_met"]) == ("coefficients", "no")
    assert outcome.notes["held_out_residual"] > 0.1


def test_what_lines_cannot_solve_is_refused_with_the_reason():
    class Line(Drift):
        def domain(self):
            return Box(x=(0, 2 * PI), t=(0, 1))

        def equations(self, u):
            return u.t - u.xx

        def conditions(self):
            return (Initial(lambda u, x: u - torch.sin(x)), Periodic("x"))

    class Walled(Drift):
        def conditions(self):
            start, _, _ = super().conditions()
            return (start, Periodic("x"), Boundary(lambda u: u, {"y": 1.0}), Boundary(lambda u: u, {"y": -1.0}))

    class Sought(Drift):
        unknowns = (Unknown("speed", 1.0),)
        speed = 2.0

        def equations(self, u):
            return u.t + self.speed * u.x - laplacian(u)

    class Waving(Drift):
        def equations(self, u):
            return u.tt - laplacian(u)

    assert refusal(Drift()) is None
    assert refusal(Solid()) is None
    for problem, reason in [
        (Line(), "one space axis"),
        (Walled(), "periodic"),
        (Sought(), "sought"),
        (Waving(), "time"),
    ]:
        assert reason in (refusal(problem) or "")
