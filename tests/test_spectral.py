"""Spectral collocation: exact matrices, geometric convergence, quadratic Newton, every kind of condition."""

import numpy as np
import pytest
import torch

import sciml
from problems.pde.burgers import Burgers
from problems.pde.heat import Heat
from sciml.pde.collocation import Fourier, GridFunction, Pieces, chebyshev, lobatto
from sciml.pde.conditions import Boundary, Initial, Observed, Periodic
from sciml.pde.domains import Box
from sciml.pde.fields import Derivative
from sciml.problem import Variable
from sciml.solver import misfit
from sciml.views.residual import Residual
from solvers.pde._collocated import System
from solvers.pde._layout import Layout, Mesh
from solvers.pde._newton import newton
from solvers.pde._radau import Marcher
from solvers.pde.spectral import Spectral

PI = np.pi


class Manufactured(Residual):
    reference_error = 1e-14

    def domain(self) -> Box:
        return Box(x=(0, 1), t=(0, 1))


class Wave(Manufactured):
    """Second order in time."""

    def equations(self, u):
        return u.tt - u.xx

    def conditions(self):
        return (Initial(lambda u, x: u - torch.sin(PI * x)), Initial(lambda u: u.t), Boundary(lambda u: u))

    def reference(self, points):
        x, t = points.T
        return (np.sin(PI * x) * np.cos(PI * t))[:, None]


class Pulse(Wave):
    """Second order in time on several pieces, sent in at one end and absorbed at the other."""

    def conditions(self):
        pulse = lambda x: torch.exp(-200 * (x - 0.2) ** 2)  # noqa: E731
        start = (
            Initial(lambda u, x: u - pulse(x)),
            Initial(lambda u, x: u.t - 400 * (x - 0.2) * pulse(x)),
        )
        ends = (Boundary(lambda u, t: u - pulse(-t), at={"x": 0}), Boundary(lambda u: u.x + u.t, at={"x": 1}))
        return (*start, *ends)

    def reference(self, points):
        x, t = points.T
        return np.exp(-200 * (x - t - 0.2) ** 2)[:, None]


class WaveSystem(Manufactured):
    """Two fields of first order; only one of them has conditions at the ends."""

    fields = (Variable("u"), Variable("v"))

    def equations(self, u, v):
        return u.t - v.x, v.t - u.x

    def conditions(self):
        return (
            Initial(lambda u, v, x: u - torch.sin(PI * x)),
            Initial(lambda u, v: v),
            Boundary(lambda u, v: u),
        )

    def reference(self, points):
        x, t = points.T
        return np.stack([np.sin(PI * x) * np.cos(PI * t), np.cos(PI * x) * np.sin(PI * t)], axis=1)


class Insulated(Manufactured):
    """Neumann at one end in each of its two spellings."""

    def equations(self, u):
        return u.t - 0.1 * u.xx

    def conditions(self):
        ends = (Boundary(lambda u: u.normal - 1, at={"x": 0}), Boundary(lambda u: u.x + 1, at={"x": 1}))
        return (Initial(lambda u, x: u - torch.cos(PI * x) + x), *ends)

    def reference(self, points):
        x, t = points.T
        return (np.cos(PI * x) * np.exp(-0.1 * PI**2 * t) - x)[:, None]


class Cooled(Manufactured):
    """Robin at both ends: cos(μx) with μ tan(μ) = h."""

    def domain(self) -> Box:
        return Box(x=(-1, 1), t=(0, 1))

    def equations(self, u):
        return u.t - u.xx

    def conditions(self):
        return (
            Initial(lambda u, x: u - torch.cos(0.8 * x)),
            Boundary(lambda u: u.normal + 0.8 * np.tan(0.8) * u),
        )

    def reference(self, points):
        x, t = points.T
        return (np.cos(0.8 * x) * np.exp(-0.64 * t))[:, None]


class Carried(Manufactured):
    """Periodic: advection and diffusion."""

    def equations(self, u):
        return u.t + u.x - 0.01 * u.xx

    def conditions(self):
        return (Initial(lambda u, x: u - torch.sin(2 * PI * x)), Periodic("x"))

    def reference(self, points):
        x, t = points.T
        return (np.sin(2 * PI * (x - t)) * np.exp(-0.04 * PI**2 * t))[:, None]


class Comb(Manufactured):
    """Periodic and too sharp for a short Fourier series: periodic images of a spreading Gaussian."""

    def equations(self, u):
        return u.t + u.x - 1e-5 * u.xx

    def conditions(self):
        gaussian = lambda x: torch.exp(-((x - 0.5) ** 2) / 4e-4)  # noqa: E731
        return (Initial(lambda u, x: u - gaussian(x)), Periodic("x"))

    def reference(self, points):
        x, t = points.T
        width = 4e-4 + 4e-5 * t
        images = [np.exp(-((x - t - 0.5 + k) ** 2) / width) for k in (-1, 0, 1, 2)]
        return (np.sqrt(4e-4 / width) * sum(images))[:, None]


class Beam(Manufactured):
    """Fourth order in space, two conditions at each end."""

    def equations(self, u):
        return u.tt + u.xxxx

    def conditions(self):
        ends = (Boundary(lambda u: u), Boundary(lambda u: u.xx))
        return (Initial(lambda u, x: u - torch.sin(PI * x)), Initial(lambda u: u.t), *ends)

    def reference(self, points):
        x, t = points.T
        return (np.sin(PI * x) * np.cos(PI**2 * t))[:, None]


class Relaxed(Manufactured):
    """One field without a time derivative."""

    fields = (Variable("u"), Variable("v"))

    def equations(self, u, v):
        return u.t - u.xx + v, v - u

    def conditions(self):
        return (Initial(lambda u, v, x: u - torch.sin(PI * x)), Boundary(lambda u, v: u))

    def reference(self, points):
        x, t = points.T
        return np.repeat((np.sin(PI * x) * np.exp(-(PI**2 + 1) * t))[:, None], 2, axis=1)


class Front(Manufactured):
    """A moving shock with Dirichlet values that depend on time, ν = 0.02."""

    def domain(self) -> Box:
        return Box(x=(-1, 1), t=(0, 0.5))

    def equations(self, u):
        return u.t + u * u.x - 0.02 * u.xx

    def conditions(self):
        wave = lambda x, t: 1 - torch.tanh((x - t + 0.5) / 0.04)  # noqa: E731
        return (Initial(lambda u, x: u - wave(x, 0)), Boundary(lambda u, x, t: u - wave(x, t)))

    def reference(self, points):
        x, t = points.T
        return (1 - np.tanh((x - t + 0.5) / 0.04))[:, None]


class Oscillator(Manufactured):
    """No space at all."""

    def domain(self) -> Box:
        return Box(t=(0, 6))

    def equations(self, u):
        return u.tt + u

    def conditions(self):
        return (Initial(lambda u: u - 1), Initial(lambda u: u.t))

    def reference(self, points):
        return np.cos(points)


class Cubic(Manufactured):
    """Steady and nonlinear, in two dimensions, Dirichlet in x and Neumann in y."""

    def domain(self) -> Box:
        return Box(x=(0, 1), y=(0, 1))

    def equations(self, u, x, y):
        exact = torch.sin(PI * x) * torch.cos(PI * y)
        return u.xx + u.yy - u**3 + 2 * PI**2 * exact + exact**3

    def conditions(self):
        sides = [Boundary(lambda u: u, at={"x": end}) for end in (0, 1)]
        return (*sides, *[Boundary(lambda u: u.normal, at={"y": end}) for end in (0, 1)])

    def reference(self, points):
        x, y = points.T
        return (np.sin(PI * x) * np.cos(PI * y))[:, None]


class Layer(Manufactured):
    """Steady, with boundary layers of width 0.01."""

    def domain(self) -> Box:
        return Box(x=(-1, 1))

    def equations(self, u):
        return 1e-4 * u.xx - u + 1

    def conditions(self):
        return (Boundary(lambda u: u),)

    def reference(self, points):
        x = np.abs(points)
        return 1 - (np.exp(100 * (x - 1)) + np.exp(-100 * (x + 1))) / (1 + np.exp(-200))


class Plate(Manufactured):
    """Two dimensions of space and time, mixed conditions."""

    def domain(self) -> Box:
        return Box(x=(0, 1), y=(0, 1), t=(0, 0.5))

    def equations(self, u):
        return u.t - 0.1 * (u.xx + u.yy)

    def conditions(self):
        sides = [Boundary(lambda u: u, at={"x": end}) for end in (0, 1)]
        sides += [Boundary(lambda u: u.normal, at={"y": end}) for end in (0, 1)]
        return (Initial(lambda u, x, y: u - torch.sin(PI * x) * torch.cos(PI * y)), *sides)

    def reference(self, points):
        x, y, t = points.T
        return (np.sin(PI * x) * np.cos(PI * y) * np.exp(-0.2 * PI**2 * t))[:, None]


class Kovasznay(Manufactured):
    """Steady Navier-Stokes at Re = 20; the pressure is free up to a constant.

    Source: L. I. G. Kovasznay, Laminar flow behind a two-dimensional grid, Proc. Camb. Phil. Soc. 44 (1948).
    """

    fields = (Variable("u"), Variable("v"), Variable("p"))
    re = 20.0
    rate = re / 2 - np.sqrt(re**2 / 4 + 4 * PI**2)

    def domain(self) -> Box:
        return Box(x=(-0.25, 0.5), y=(-0.25, 0.5))

    def equations(self, u, v, p):
        return (
            u * u.x + v * u.y + p.x - (u.xx + u.yy) / self.re,
            u * v.x + v * v.y + p.y - (v.xx + v.yy) / self.re,
            u.x + v.y,
        )

    def conditions(self):
        u0 = lambda u, v, p, x, y: u - 1 + torch.exp(self.rate * x) * torch.cos(2 * PI * y)  # noqa: E731
        swirl = self.rate / (2 * PI)
        v0 = lambda u, v, p, x, y: v - swirl * torch.exp(self.rate * x) * torch.sin(2 * PI * y)  # noqa: E731
        return (Boundary(u0), Boundary(v0))

    def reference(self, points):
        x, y = points.T
        e = np.exp(self.rate * x)
        v = self.rate / (2 * PI) * e * np.sin(2 * PI * y)
        return np.stack([1 - e * np.cos(2 * PI * y), v, (1 - e**2) / 2], axis=1)


MARCHED = [Wave, Pulse, WaveSystem, Insulated, Cooled, Carried, Comb, Beam, Relaxed, Front, Oscillator, Plate]
STEADY = [Cubic, Layer]


@pytest.mark.parametrize("problem", [p() for p in MARCHED + STEADY], ids=lambda p: type(p).__name__)
def test_meets_its_tolerance_and_restores(problem):
    solver = Spectral(tolerance=1e-7)
    solution = sciml.solve(problem, solver)
    assert solution.notes["tolerance_met"] == "yes"
    assert problem.score(solution)["max_error"] < 2e-7
    marched = str(solution.notes["method"]).startswith(("lines", "Fourier"))
    assert marched == (type(problem) in MARCHED)
    points = np.random.default_rng(0).uniform(*problem.region.bounds.T, (50, len(problem.region.axes)))
    assert np.array_equal(solver.restore(problem, solution.state)(points), solution(points))


def test_navier_stokes_up_to_the_constant_of_the_pressure():
    problem = Kovasznay()
    solution = sciml.solve(problem, Spectral(tolerance=1e-4))
    points, exact = problem.evaluation
    error = solution(points) - exact
    assert np.abs(error[:, :2]).max() < 1e-6
    assert np.ptp(error[:, 2]) < 1e-5


@pytest.mark.parametrize("order", [0, 1, 2, 4])
def test_pieces_are_exact_on_polynomials(order):
    line = Pieces(np.array([-1.0, 0.2, 1.5]), lobatto(8))
    polynomial = np.polynomial.Polynomial([1, -2, 0.5, 3, -1, 0.25, 0, 0.125])
    points = np.linspace(-1, 1.5, 23)
    exact = polynomial.deriv(order)(points) if order else polynomial(points)
    assert np.allclose(line.matrix(points, order) @ polynomial(line.nodes), exact, rtol=0, atol=1e-9)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_fourier_is_exact_on_trigonometric_polynomials(order):
    line = Fourier(0.5, 2.5, 11)
    points = np.linspace(0, 4, 17)  # beyond one period too
    derivative = lambda x: np.real((1j * 5 * PI) ** order * np.exp(1j * 5 * PI * x))  # noqa: E731
    values = np.cos(5 * PI * line.nodes)
    assert np.allclose(
        line.matrix(points, order) @ values, derivative(points), rtol=1e-10, atol=1e-10 * (5 * PI) ** order
    )


def test_the_interpreter_agrees_on_scattered_and_tensor_points():
    lines = (chebyshev(0, 2, 24), Fourier(-1, 1, 21))
    x, y = np.meshgrid(lines[0].nodes, lines[1].nodes, indexing="ij")
    grid = GridFunction({"u": lines}, {"u": np.exp(x) * np.sin(PI * y)})
    need = Derivative("u", (2, 1))
    scattered = np.random.default_rng(1).uniform([0, -1], [2, 1], (1000, 2))
    tensor = np.stack([g.ravel() for g in np.meshgrid(np.linspace(0, 2, 9), np.linspace(-1, 1, 8))], axis=1)
    for points in (scattered, tensor):
        exact = PI * np.exp(points[:, 0]) * np.cos(PI * points[:, 1])
        assert np.allclose(grid(points, [need])[need], exact, rtol=0, atol=1e-8)
        assert torch.equal(grid(torch.as_tensor(points), [need])[need], torch.as_tensor(grid(points, [need])[need]))


@pytest.mark.parametrize(
    "problem", [Heat(), Burgers(), Wave(), Insulated(), Kovasznay()], ids=lambda p: type(p).__name__
)
def test_references_make_every_residual_zero(problem):
    """A reference, interpolated on a grid graded towards x = 0, obeys the equations and the conditions."""
    lines = []
    for low, high in problem.region.bounds:
        inner = [b for b in (-0.25, -0.06, -0.03, -0.015, 0.0, 0.015, 0.03, 0.06, 0.25) if low < b < high]
        lines.append(Pieces(np.array([low, *inner, *(low + (high - low) * np.array([0.5, 0.75])), high]), lobatto(26)))
    lines = [Pieces(np.unique(line.breaks), line.reference) for line in lines]
    nodes = np.meshgrid(*(line.nodes for line in lines), indexing="ij")
    values = problem.reference(np.stack([g.ravel() for g in nodes], axis=1))
    names = [f.name for f in problem.fields]
    grid = GridFunction(
        dict.fromkeys(names, tuple(lines)),
        {n: values[:, k].reshape(nodes[0].shape) for k, n in enumerate(names)},
    )
    generator = torch.Generator().manual_seed(0)
    for term in problem.terms:
        residual = term.residual(term.part.sample(200, generator, "uniform", torch.float64), grid)
        assert residual.abs().max() < 2e-5, term.name


def error_of(problem, count):
    """The error of a march on one piece per axis of so many points, pieces not halved."""
    layout = Layout(problem)
    system = System(Mesh.coarsest(layout, count))
    made = Marcher(system, (0.0, 1.0), 1e-9, system.size).run(lambda done, values: None)
    end = made.system.function(made.steps[-1][:, -1])
    x = np.linspace(*problem.region.bounds[0], 101)
    found = end(x[:, None], [Derivative("u", (0,))])[Derivative("u", (0,))]
    return np.abs(found - problem.reference(np.stack([x, np.ones_like(x)], axis=1))[:, 0]).max()


def test_converges_faster_than_geometrically_on_heat():
    """The solution is entire: each further pair of points gains a factor, at least 8, and more each time."""
    errors = np.array([error_of(Heat(), n) for n in (4, 6, 8, 10)])
    assert (errors[1:] < errors[:-1] / 8).all()
    assert errors[-1] < 1e-8


def test_converges_geometrically_on_burgers():
    """The shock ``-a tanh(a x / 2ν)`` has poles at ±iπν/a, which set the rate: log ρ = asinh(πν/a)."""
    problem = Burgers(viscosity=0.1 / PI)
    slope = -problem.reference(np.array([[1e-6, 1.0]]))[0, 0] / 1e-6
    expected = np.arcsinh(PI * problem.viscosity / np.sqrt(2 * problem.viscosity * slope))
    counts = np.array([60, 80, 100, 120])
    logs = np.log([error_of(problem, int(n)) for n in counts])
    line = np.polyfit(counts, logs, 1)
    assert -line[0] == pytest.approx(expected, rel=0.1)
    assert np.abs(logs - np.polyval(line, counts)).max() < 0.3


def test_newton_converges_quadratically():
    system = System(Mesh.coarsest(Layout(Cubic()), 12))
    residual = lambda v: system.residual(v[:, None], v[:, None], np.zeros(1))[:, 0]  # noqa: E731
    _, sizes = newton(residual, lambda v: system.linearised(v, v, 0.0)[0], np.full(system.size, 2.0), 1e-13)
    late = [s for s in sizes if 1e-7 < s < 0.3]
    following = [sizes[sizes.index(s) + 1] for s in late]
    assert len(late) >= 2
    orders = np.log(following) / np.log(late)
    assert (orders > 1.7).all()


def test_says_that_a_tolerance_is_missed():
    solution = sciml.solve(Burgers(), Spectral(tolerance=1e-8, unknowns=100))
    assert solution.notes["tolerance_met"] == "no"
    assert solution.notes["starved"] == "yes"


def test_ladder_descends():
    problem = Burgers()
    errors = [
        problem.score(sciml.solve(problem, Spectral(tolerance=t)))["relative_l2"] for t in Spectral.ladder["tolerance"]
    ]
    assert all(e < t for e, t in zip(errors, Spectral.ladder["tolerance"], strict=True))
    assert errors[-1] < errors[0] / 100


def test_golden_heat():
    problem = Heat()
    solution = sciml.solve(problem, Spectral(tolerance=1e-10))
    assert problem.score(solution)["relative_l2"] < 1e-11
    assert solution([[0.5, 1.0]])[0, 0] == pytest.approx(0.3727078389, abs=1e-10)


class Short(Heat):
    def conditions(self):
        return (Initial(lambda u: u), Boundary(lambda u: u, at={"x": 0}))


class Seen(Heat):
    def conditions(self):
        return (*super().conditions(), Observed("u", np.array([[0.5, 0.5]]), np.array([1.0])))


class Torn(Heat):
    def conditions(self):
        return (*super().conditions(), Periodic("x"))


@pytest.mark.parametrize(("problem", "reason"), [(Short(), "too few"), (Seen(), "observed"), (Torn(), "periodic")])
def test_refuses_what_it_cannot_solve(problem, reason):
    line = misfit(problem, Spectral())
    assert line is not None
    assert reason in line
