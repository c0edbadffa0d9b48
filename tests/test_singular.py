"""Fields that are singular at points: what is known there is taken off, and the rest is solved for."""

import numpy as np
import pytest
import torch

from problems.pde._scraper import corner
from problems.pde.cavity import Cavity
from sciml.errors import UserError
from sciml.pde.conditions import Boundary
from sciml.pde.domains import Box
from sciml.pde.fields import laplacian
from sciml.pde.singular import Split
from sciml.pde.tracing import trace
from sciml.solver import Context
from sciml.training.settings import Training
from sciml.views.residual import Residual, Singularity
from solvers.pde.rfm import RFM


class Cornered(Residual):
    """Poisson's equation for ``sqrt(r) sin(θ/2) + x y²`` about the corner at zero."""

    def __init__(self, known: bool = True) -> None:
        self.known = known

    def domain(self):
        return Box(x=(0, 1), y=(0, 1))

    def equations(self, u, x):
        return laplacian(u) - 2 * x

    def conditions(self):
        return (Boundary(lambda u, x, y: u - root(x, y) - x * y**2),)

    def singularities(self):
        return (Singularity((0.0, 0.0), lambda x, y: (root(x, y),)),) if self.known else ()

    def reference(self, points):
        x, y = torch.as_tensor(points).T
        return (root(x, y) + x * y**2).numpy()[:, None]


def root(x, y):
    return (x**2 + y**2) ** 0.25 * torch.sin(torch.atan2(y, x) / 2)


def relations(make):
    """Return expressions on (X, Y) as a function of points, shape (n, 2)."""
    traced = trace(make, (), ("X", "Y"))
    return lambda points: [r({}, {"X": points[:, 0], "Y": points[:, 1]}) for r in traced]


def momentum(inertia):
    """Return by how much the corner's flow at Re = 1 misses the momentum equations."""

    def missed(X, Y):
        flow = corner(X, Y)
        slow = flow.stream.Y, -flow.stream.X
        u, p = slow, flow.pressure
        if inertia:
            u, p = (flow.inertial_stream.Y, -flow.inertial_stream.X), flow.inertial_pressure
        driven = [inertia * (slow[0] * s.X + slow[1] * s.Y) for s in slow]
        return [d + g - laplacian(v) for d, g, v in zip(driven, (p.X, p.Y), u, strict=True)]

    return missed


@pytest.mark.parametrize("inertia", [0, 1])
def test_a_sliding_walls_flow_solves_navier_and_stokes(inertia):
    points = np.random.default_rng(0).uniform(0.1, 1, (50, 2))
    assert np.abs(relations(momentum(inertia))(points)).max() < 1e-10


@pytest.mark.parametrize("inertial", [False, True])
def test_a_sliding_walls_flow_sticks_to_both_walls(inertial):
    def velocity(X, Y):
        stream = corner(X, Y).inertial_stream if inertial else corner(X, Y).stream
        return stream.Y, -stream.X

    line, zero = np.linspace(0.1, 1, 9), np.zeros(9)
    along, across = relations(velocity)(np.stack([line, zero], axis=1))
    np.testing.assert_allclose(along, 0 if inertial else 1, atol=1e-14)
    np.testing.assert_allclose(across, 0, atol=1e-14)
    np.testing.assert_allclose(relations(velocity)(np.stack([zero, line], axis=1)), 0, atol=1e-14)


def test_a_known_singular_part_restores_the_accuracy_of_smooth_fields():
    context = Context(training=Training(max_steps=60))
    error = {}
    for known in (True, False):
        problem = Cornered(known)
        solution = RFM(tolerance=1e-8, coefficients=400).solve(problem, context)
        error[known] = problem.score(solution)["relative_l2"]
    assert error[True] < 1e-8
    assert error[False] > 1e-4


def test_a_restored_solution_is_the_same_function():
    problem = Cornered()
    solver = RFM(tolerance=1e-6, coefficients=400)
    solution = solver.solve(problem, Context())
    points = np.random.default_rng(1).uniform(0, 1, (20, 2))
    again = solver.restore(problem, solution.state)
    np.testing.assert_array_equal(again(points), solution(points))
    assert again.problem is problem


def test_where_the_singular_part_has_no_value_the_solution_is_finite():
    problem = Cavity()
    zero = Split(problem).whole(problem.trivial())
    assert np.isfinite(zero(np.array([[0.0, 1.0], [1.0, 1.0]]))).all()


@pytest.mark.parametrize(("problem", "term", "corner"), [(Cornered(), 0, (0, 0)), (Cavity(), 2, (0, 1))], ids=repr)
def test_an_equation_counts_at_every_length_as_values_on_the_edges_do(problem, term, corner):
    equation = Split(problem).remainder.terms[term].relation
    order = sum(equation.needs[0].order)
    inward = np.random.default_rng(0).uniform(0.1, 1, (50, 2)) * np.where(corner, -1, 1)

    def ratio(length):
        """Return an integral of squares over a patch of a remainder of size 1, by that of its values on edges."""
        at = dict(zip(("x", "y"), (corner + length * inward).T, strict=True))
        bent, none = ({d: np.full(50, size) for d in equation.needs} for size in (length**-order, 0.0))
        return length**2 * np.mean((equation(bent, at) - equation(none, at)) ** 2) / length

    assert ratio(1e-4) == pytest.approx(ratio(1e-2), rel=0.05)
    assert ratio(1e-4) > 0.01


def test_a_singular_part_of_another_number_of_fields_is_refused():
    class Two(Cornered):
        def singularities(self):
            return (Singularity((0.0, 0.0), lambda x, y: (x, y)),)

    with pytest.raises(UserError, match="2 expressions"):
        Split(Two())


def test_the_cavity_by_few_random_features():
    problem = Cavity()
    solution = RFM(tolerance=1e-3, coefficients=1024).solve(problem, Context())
    assert problem.score(solution)["relative_l2"] < 1e-2
