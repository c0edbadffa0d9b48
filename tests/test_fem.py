"""Finite elements: rates of convergence on manufactured solutions, conditions of every kind, flows, golden numbers."""

from collections.abc import Sequence

import numpy as np
import pytest
from skfem import Basis

from problems.pde.cavity import Cavity
from problems.pde.kovasznay import Kovasznay
from problems.pde.navier_stokes_step import NavierStokesStep
from problems.pde.poisson_2d import Poisson2D
from problems.pde.poisson_boltzmann import PoissonBoltzmann, boundary_values
from problems.pde.poisson_holes import PoissonHoles
from problems.pde.poisson_l_shape import PoissonLShape
from sciml.errors import SolveError
from sciml.pde.conditions import Boundary, Condition, Observed
from sciml.pde.domains import Box, Domain
from sciml.pde.fields import laplacian
from sciml.pde.geometry import Shape
from sciml.pde.solids import disk, rectangle
from sciml.problem import Variable
from sciml.solver import Context
from sciml.views.residual import Residual
from solvers.pde import fem
from solvers.pde._fem_form import Form
from solvers.pde._fem_mesh import Triangulation, triangulate
from solvers.pde._fem_space import Space
from solvers.pde.fem import Fem, mesh_function, solved


class Manufactured(Residual):
    """u = sin(2x + y) exp(y) solves a nonlinear equation with coefficients, mixed derivatives and all conditions."""

    nonlinear = True

    def domain(self) -> Domain:
        return Box(x=(0, 1), y=(0, 1))

    def exact(self, x, y):
        return np.sin(2 * x + y) * np.exp(y)

    def operator(self, u, x, y):
        k = 1 + x * y + (u**2 if self.nonlinear else 0)
        return (k * u.x).x + (k * u.y).y + 0.3 * u.xy + y * u.x - u

    def equations(self, u, x, y):
        return self.operator(u, x, y) - self.operator(self.exact(x, y), x, y)

    def conditions(self) -> Sequence[Condition]:
        def flux(u, x, y):
            exact = self.exact(x, y)
            k = 1 + x * y + (u**2 if self.nonlinear else 0)
            return k * u.y + 0.15 * u.x - (1 + x * y + (exact**2 if self.nonlinear else 0)) * exact.y - 0.15 * exact.x

        def robin(u, x, y):
            return flux(u, x, y) + 2 * (u - self.exact(x, y))

        return (
            Boundary(lambda u, x, y: u - self.exact(x, y), at={"x": 0}),
            Boundary(lambda u, x, y: 3 * u - 3 * self.exact(x, y), at={"x": 1}),
            Boundary(flux, at={"y": 0}, name="neumann"),
            Boundary(robin, at={"y": 1}, name="robin"),
        )

    def reference(self, points: np.ndarray) -> np.ndarray:
        return self.exact(*points.T)[:, None]


class Stokes(Residual):
    """A polynomial Stokes flow in a box with one side open: u = y², v = x², p = 2x + 2y - 2."""

    fields = (Variable("u"), Variable("v"), Variable("p"))

    def domain(self) -> Domain:
        return Box(x=(0, 1), y=(0, 1))

    def equations(self, u, v, p):
        return p.x - laplacian(u), p.y - laplacian(v), u.x + v.y

    def conditions(self) -> Sequence[Condition]:
        still = (Boundary(lambda u, v, x, y: (u - y**2, v - x**2), at=a) for a in ({"x": 0}, {"y": 0}, {"y": 1}))
        open_ = Boundary(lambda u, v, p, x, y: (u.normal - p + 2 * y, v.normal - 2), at={"x": 1}, name="open")
        return (*still, open_)

    def reference(self, points: np.ndarray) -> np.ndarray:
        x, y = points.T
        return np.stack([y**2, x**2, 2 * x + 2 * y - 2], axis=1)


def error(problem: Residual, across: int, degree: int) -> float:
    """Return the relative error in L2 on a uniform mesh."""
    space = Space(Form(problem), triangulate(problem.region, across, 1e-9), degree)
    y, _ = solved(space, np.zeros(space.size))
    points = np.random.default_rng(0).random((2000, 2))
    exact = problem.reference(points)
    return float(np.linalg.norm(mesh_function(space, y)(points) - exact) / np.linalg.norm(exact))


@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize("nonlinear", [True, False])
def test_errors_fall_by_the_degree_plus_one(degree: int, nonlinear: bool) -> None:
    problem = Manufactured()
    problem.nonlinear = nonlinear
    assert Form(problem).is_linear != nonlinear
    coarse, fine = (error(problem, across, degree) for across in (4, 8))
    assert degree + 0.6 < np.log2(coarse / fine) < degree + 1.7


def test_a_polynomial_flow_is_exact_with_an_open_side() -> None:
    problem = Stokes()
    space = Space(Form(problem), triangulate(problem.region, 2, 1e-9), 2)
    assert space.degree == {"u": 2, "v": 2, "p": 1}
    assert error(problem, 2, 2) < 1e-12


def test_a_circle_stays_round_as_it_is_refined() -> None:
    domain = Shape(rectangle((-1, -1), (1, 1)) - disk((0.2, 0.1), 0.5))
    mesh = triangulate(domain, 4, 1e-3)
    apart = []
    for _ in range(3):
        area = Basis(mesh.curved, mesh.curved.elem(), intorder=6).dx.sum()
        apart.append(abs(area - (4 - np.pi / 4)))
        mesh = mesh.refined(np.arange(mesh.straight.t.shape[1]))
    assert apart[0] < 1e-4
    assert apart[2] < apart[0] / 500  # the fourth power of the angle would give 256


@pytest.mark.parametrize(("problem", "tolerance", "worst"), [(PoissonLShape, 1e-4, 1e-6), (PoissonHoles, 1e-3, 1e-4)])
def test_a_tolerance_is_kept_at_corners_and_holes(problem: type[Residual], tolerance: float, worst: float) -> None:
    asked = problem()
    solution = Fem(tolerance=tolerance).solve(asked, Context())
    assert solution.notes["tolerance_met"] == "yes"
    assert asked.score(solution)["relative_l2"] < min(worst, float(solution.notes["estimated_error"]))


def test_a_mesh_is_graded_where_boundary_values_jump_and_at_inner_corners() -> None:
    mesh = triangulate(PoissonLShape().region, 4, 1e-3)
    ((corner, exponent),) = mesh.corners()
    assert np.allclose(corner, 0)
    assert exponent == pytest.approx(2 / 3)
    assert _smallest(mesh.graded(corner, 1e-6)) < 1e-6 < 100 * _smallest(mesh.graded(corner, 1e-4))
    box = triangulate(Cavity().region, 4, 1e-3)
    clashes = Space(Form(Cavity()), box, 2).clashes
    assert clashes.tolist() == [[0, 1], [1, 1]]


def _smallest(mesh: Triangulation) -> float:
    p, t = mesh.straight.p, mesh.straight.t
    return float(np.linalg.norm(p[:, t[0]] - p[:, t[1]], axis=0).min())


class Open(Stokes):
    """A side without conditions."""

    def conditions(self) -> Sequence[Condition]:
        return (*super().conditions()[:-1], Observed("p", np.zeros((1, 2)), np.zeros(1)))


class Oblique(Manufactured):
    """A condition on a slope that is not that of the flux."""

    def conditions(self) -> Sequence[Condition]:
        return (Boundary(lambda u: u, at={"x": 0}), Boundary(lambda u: u.x + u.y))


class Torn(Manufactured):
    """A gap in a side that is narrower than points are dense, at the middle of an edge of the first mesh."""

    def conditions(self) -> Sequence[Condition]:
        return (Boundary(lambda u: u, at=lambda x, y: abs(x - 1 / 16) > 1e-6),)


class Half(PoissonHoles):
    """A hole of which only one half has a condition."""

    def conditions(self) -> Sequence[Condition]:
        return (Boundary(lambda u: u, at=lambda x, y: x < 0.5),)


def test_conditions_that_elements_cannot_take_are_named() -> None:
    with pytest.raises(SolveError, match="no condition for u"):
        Fem().solve(Torn(), Context())
    with pytest.raises(SolveError, match="no multiple of the flux of u"):
        Fem().solve(Oblique(), Context())


class Unpinned(Cavity):
    """A pressure with a free constant."""

    def conditions(self) -> Sequence[Condition]:
        return super().conditions()[:-1]


class Measured(Cavity):
    """Data on top of the equations."""

    def conditions(self) -> Sequence[Condition]:
        return (*super().conditions(), Observed("u", np.full((2, 2), 0.5), np.zeros(2)))


def test_problems_without_a_weak_form_are_refused() -> None:
    assert "nothing fixes the constant of p" in str(Fem().refuses(Unpinned()))
    assert "observed data" in str(Fem().refuses(Measured()))
    assert "degree 1" in str(Fem(degree=1).refuses(Cavity()))
    assert "x = 1 has no condition for u" in str(Fem().refuses(Open()))
    assert "a part of the boundary has no condition for u" in str(Fem().refuses(Half()))
    assert "x = 1 has no condition for u" in str(Fem().refuses(Kovasznay()))


def test_without_the_extra_shapes_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fem, "find_spec", lambda name: None)
    assert "the extra fem" in str(Fem().refuses(PoissonHoles()))
    assert Fem().refuses(Poisson2D()) is None


def test_the_solution_is_the_same_again_from_its_state() -> None:
    asked = PoissonHoles()
    method = Fem(tolerance=0.1, degree=3)
    solution = method.solve(asked, Context())
    points = asked.evaluation[0][::50]
    np.testing.assert_array_equal(method.restore(asked, solution.state)(points), solution(points))


def test_references_keep_their_values() -> None:
    at = np.array([[0.1, 0.2], [-0.2, 0.05]])
    golden = {
        PoissonLShape: [0.2478922066625343, 0.3265716999270631],
        PoissonHoles: [0.22091573942099219, 0.25327551849425634],
        PoissonBoltzmann: [0.33093795757985983, -0.1443174697380814],
    }
    for problem, values in golden.items():
        np.testing.assert_allclose(problem().reference(at)[:, 0], values, rtol=1e-10)


def test_the_potential_has_its_boundary_values_between_the_points_of_the_fit() -> None:
    x, y, values = boundary_values(217)
    np.testing.assert_allclose(PoissonBoltzmann().reference(np.stack([x, y], axis=1))[:, 0], values, atol=2e-12)


def test_the_cavity_agrees_with_the_published_centre_lines() -> None:
    """Values of Ghia, Ghia and Shin 1982 at Re = 100, whose error is 0.01; and those of a converged flow."""
    asked = Cavity()
    y, u = [0.9531, 0.7344, 0.5, 0.2813, 0.1016], [0.68717, 0.00332, -0.20581, -0.15662, -0.06434]
    x, v = [0.9453, 0.8594, 0.5, 0.2266, 0.0781], [-0.10313, -0.22445, 0.05454, 0.17507, 0.10890]
    down, along = (np.stack(np.broadcast_arrays(*line), axis=1) for line in ((0.5, y), (x, 0.5)))
    solution = Fem(tolerance=1e-2).solve(asked, Context())
    for fields in (asked.reference, solution):
        assert np.abs(fields(down)[:, 0] - u).max() < 0.01
        assert np.abs(fields(along)[:, 1] - v).max() < 0.01
    scores = asked.score(solution)
    assert scores["relative_l2_u"] < 1e-3
    assert scores["relative_l2_v"] < 1e-3
    assert scores["relative_l2_p"] < 1e-2
    np.testing.assert_allclose(asked.reference(np.array([[0.5, 0.5]]))[0], [-0.20914914, 0.05753657, 0], atol=1e-7)


def test_the_faster_cavity_agrees_with_the_published_spectral_solution() -> None:
    """Values of Botella and Peyret 1998 at Re = 1000, of seven digits; their lid moves the other way."""
    asked = Cavity(reynolds=1000)
    y = [0.9766, 0.9609, 0.8516, 0.6172, 0.5, 0.2813, 0.1719, 0.0547]
    u = [0.6644227, 0.5169277, 0.3372212, 0.0570178, -0.0620561, -0.2803696, -0.3885691, -0.1812881]
    x, v = [0.9453, 0.8594, 0.5, 0.2266], [-0.4103754, -0.4264545, 0.0257995, 0.3339924]
    down, along = (np.stack(np.broadcast_arrays(*line), axis=1) for line in ((0.5, y), (x, 0.5)))
    np.testing.assert_allclose(asked.reference(down)[:, 0], u, atol=1e-6)
    np.testing.assert_allclose(asked.reference(along)[:, 1], v, atol=1e-6)
    assert asked.reference_error is not None
    assert Cavity(reynolds=150).reference_error is None


def test_the_flow_past_a_step_keeps_its_values_and_its_volume() -> None:
    asked = NavierStokesStep()
    golden = [[-0.057215, -0.018783, -0.027779], [0.947122, 0.061183, -0.020808]]
    np.testing.assert_allclose(asked.reference(np.array([[3.0, 1.5], [2.5, 0.5]])), golden, atol=2e-6)
    for x, height in ((0.5, 1), (2.5, 2), (3.9, 2)):
        y = np.linspace(0, height, 2001)
        u = asked.reference(np.stack(np.broadcast_arrays(x, y), axis=1))[:, 0]
        assert np.trapezoid(u, y) == pytest.approx(2 / 3, abs=2e-6)  # the integral of 4y (1 - y)
