"""Random features on cells: block elimination, continuity, marching of fronts, several fields and orders."""

import numpy as np
import pytest
import torch

from problems.pde.burgers import Burgers
from sciml.clock import Clock
from sciml.errors import SolveError
from sciml.pde.conditions import Boundary, Initial, Periodic
from sciml.pde.domains import Box
from sciml.problem import Variable
from sciml.solver import Context
from sciml.training.settings import Training
from sciml.views.residual import Residual
from solvers.pde._cells import march, refusal, remake
from solvers.pde._cells_algebra import Chain

PI = np.pi


class Once(Clock):
    """Leaves time for one march."""

    def __init__(self):
        super().__init__(Context(training=Training(max_seconds=1000.0)))
        self.left = np.inf

    @property
    def remaining(self):
        return self.left

    def report(self, done, values):
        super().report(done, values)
        self.left = 0.0 if done > 1 - 1e-9 else np.inf


def error(problem, function):
    points, reference = problem.evaluation
    return np.linalg.norm(function(points) - reference) / np.linalg.norm(reference)


class Schroedinger(Residual):
    """A soliton of the nonlinear Schroedinger equation: two coupled fields, time as the first axis."""

    reference_error = 1e-14
    fields = (Variable("u"), Variable("v"))

    def domain(self):
        return Box(t=(0, 0.2), x=(-2, 2))

    def equations(self, u, v):
        size = u * u + v * v
        return u.t + 0.5 * v.xx + size * v, v.t - 0.5 * u.xx - size * u

    def conditions(self):
        wave = lambda x, t: 1 / torch.cosh(x)  # noqa: E731
        ends = Boundary(lambda u, v, x, t: (u - wave(x, t) * torch.cos(t / 2), v - wave(x, t) * torch.sin(t / 2)))
        return (Initial(lambda u, x, t: u - wave(x, t)), Initial(lambda v: v), ends)

    def reference(self, points):
        t, x = points.T
        return np.stack([np.cos(t / 2), np.sin(t / 2)], axis=1) / np.cosh(x)[:, None]


class Beam(Residual):
    """Second order in time and fourth in space on a circle."""

    reference_error = 1e-14

    def domain(self):
        return Box(x=(0, 2 * PI), t=(0, 1))

    def equations(self, u):
        return u.tt + u.xxxx

    def conditions(self):
        return (Initial(lambda u, x: u - torch.sin(x)), Initial(lambda u: u.t), Periodic("x"))

    def reference(self, points):
        x, t = points.T
        return (np.sin(x) * np.cos(t))[:, None]


@pytest.mark.parametrize("circle", [False, True])
@pytest.mark.parametrize("cells", [1, 2, 4])
def test_elimination_equals_dense_least_squares(cells, circle):
    rng, unknowns, size, inner = np.random.default_rng(0), 5, 2, 8
    rows = [rng.standard_normal((inner + 2 * size, unknowns)) for _ in range(cells)]
    right = [rng.standard_normal(inner + 2 * size) for _ in range(cells)]
    interfaces = cells if circle else cells - 1
    whole = np.zeros((cells * (inner + 2 * size), cells * unknowns + interfaces * size))
    for c in range(cells):
        top = c * (inner + 2 * size)
        whole[top : top + inner + 2 * size, c * unknowns : (c + 1) * unknowns] = rows[c]
        for side, g in enumerate((c - 1, c)):
            if circle or 0 <= g < interfaces:
                column = cells * unknowns + (g % interfaces) * size
                start = top + inner + side * size
                whole[start : start + size, column : column + size] = -np.eye(size)
    expected = np.linalg.lstsq(whole, np.concatenate(right), rcond=None)[0][: cells * unknowns]
    assert np.allclose(np.concatenate(Chain(rows, size, circle).solve(right)), expected, atol=1e-12)


@pytest.fixture(scope="module")
def front():
    problem = Burgers()
    return problem, march(problem, 1e-4, 0, Clock(Context()))


def test_a_front_is_resolved_to_the_tolerance(front):
    problem, outcome = front
    notes = outcome.notes
    assert error(problem, outcome.function) < 1e-4
    assert notes["tolerance_met"] == "yes"
    assert max(notes["held_out_residual"], notes["estimated_error"]) <= 1e-4
    assert notes["cells"] > 8


def test_value_and_slope_match_at_interfaces_and_slabs(front):
    _, outcome = front
    state = outcome.state
    first, last = state["firsts"][-2:]
    step = 1e-7
    for x in state["high"][first : last - 1]:
        points = np.array([[x + k * step, 1.0] for k in (-2, -1, 1, 2)])
        u = outcome.function(points)[:, 0]
        left, right = (u[1] - u[0]) / step, (u[3] - u[2]) / step
        assert abs(u[2] - u[1] - (left + right) * step) < 1e-5
        assert abs(left - right) < 0.05
    for t in state["times"][1:-1]:
        x = np.linspace(-1, 1, 50)
        before, after = (outcome.function(np.stack([x, np.full(50, t + e)], axis=1)) for e in (-1e-9, 1e-9))
        assert np.abs(before - after).max() < 1e-4


def test_a_remade_function_gives_the_same_numbers(front):
    problem, outcome = front
    points = problem.evaluation[0]
    assert np.array_equal(remake(problem, outcome.state)(points), outcome.function(points))


def test_the_same_seed_gives_the_same_numbers_and_another_one_others():
    problem = Burgers(viscosity=0.1)
    one, again, other = (march(problem, 1e-3, seed, Clock(Context())) for seed in (1, 1, 2))
    assert all(np.array_equal(v, again.state[k]) for k, v in one.state.items())
    assert not np.array_equal(one.state["weights"], other.state["weights"])


@pytest.mark.parametrize("problem", [Schroedinger(), Beam()], ids=["schroedinger", "beam"])
def test_several_fields_and_orders(problem):
    coarse, fine = (march(problem, tolerance, 0, Clock(Context())) for tolerance in (1e-3, 1e-6))
    assert error(problem, coarse.function) < 1e-3
    assert error(problem, fine.function) < 1e-6
    assert fine.notes["tolerance_met"] == "yes"


def test_a_limit_on_time_stops_the_march():
    with pytest.raises(SolveError, match="not solved within"):
        march(Burgers(), 1e-3, 0, Clock(Context(training=Training(max_seconds=1e-6))))


def test_a_march_that_came_to_its_end_outlives_the_limit_on_time():
    problem = Burgers(viscosity=0.1)
    outcome = march(problem, 1e-3, 0, Once())
    assert error(problem, outcome.function) < 1e-3
    assert (outcome.notes["stop_reason"], outcome.notes["tolerance_met"]) == ("max_seconds", "no")
    assert outcome.notes["marches"] == 1
    assert "estimated_error" not in outcome.notes


def test_what_cannot_be_marched_is_refused_with_the_reason():
    class Steady(Residual):
        def domain(self):
            return Box(x=(0, 1))

        def equations(self, u):
            return u.xx

        def conditions(self):
            return (Boundary(lambda u: u),)

        def reference(self, points):
            return np.zeros((len(points), 1))

    assert refusal(Burgers()) is None
    assert "time" in (refusal(Steady()) or "")


class Limited(Clock):
    """Leaves time for so many marches."""

    def __init__(self, marches):
        super().__init__(Context(training=Training(max_seconds=1000.0)))
        self.marches = marches

    @property
    def remaining(self):
        return float(self.marches)

    def report(self, done, values):
        super().report(done, values)
        self.marches -= done > 1 - 1e-9


def test_in_limited_time_a_loose_tolerance_is_met_first():
    problem = Burgers(viscosity=0.1)
    loose = march(problem, 1e-6, 0, Clock(Context()))
    outcome = march(problem, 1e-9, 0, Limited(loose.notes["marches"]))
    points, _ = problem.evaluation
    assert (outcome.function(points) == loose.function(points)).all()
    assert error(problem, outcome.function) < 1e-6
    assert (outcome.notes["stop_reason"], outcome.notes["tolerance_met"]) == ("max_seconds", "no")
