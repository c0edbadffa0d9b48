"""Exponential time differencing: order, exactness, conservation, agreement with implicit lines and with references."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import sciml
from problems.pde._marched import Modes
from problems.pde.allen_cahn import AllenCahn
from problems.pde.ginzburg_landau import GinzburgLandau
from problems.pde.gray_scott import GrayScott
from problems.pde.kdv import KdV
from problems.pde.kuramoto_sivashinsky import KuramotoSivashinsky
from problems.pde.schroedinger import Schroedinger
from sciml.parameters import Positive
from sciml.pde.conditions import Initial, Periodic
from sciml.pde.domains import Box
from sciml.pde.fields import laplacian
from sciml.pde.semilinear import Grid, Semilinear
from sciml.problem import Variable
from sciml.views.residual import Residual
from solvers.pde._etdrk4 import FEWEST, Exponential, Step
from solvers.pde.spectral import Spectral

PI = np.pi


class Torus(Residual):
    """Advection, diffusion and rotation of two fields on a torus, all linear."""

    fields = (Variable("u"), Variable("v"))

    def domain(self) -> Box:
        return Box(x=(0, 2 * PI), y=(-1, 1), t=(0, 1))

    def equations(self, u, v):
        return u.t - 0.1 * laplacian(u) + 3 * u.x + 2 * v, 2 * (v.t - 0.1 * laplacian(v) + 3 * v.x - 2 * u)

    def conditions(self):
        wave = lambda x, y: torch.sin(x) * torch.cos(PI * y)  # noqa: E731
        start = (Initial(lambda u, x, y: 2 * u - 2 * wave(x, y)), Initial(lambda v: v))
        return (*start, Periodic("x"), Periodic("y"))

    def reference(self, points):
        x, y, t = points.T
        size = np.exp(-0.1 * (1 + PI**2) * t) * np.sin(x - 3 * t) * np.cos(PI * y)
        return np.stack([size * np.cos(2 * t), size * np.sin(2 * t)], axis=1)


class Damped(Residual):
    """Viscous Burgers without a front."""

    def domain(self) -> Box:
        return Box(x=(0, 2 * PI), t=(0, 2))

    def equations(self, u):
        return u.t + u * u.x - 0.2 * u.xx

    def conditions(self):
        return (Initial(lambda u, x: u - torch.sin(x)), Periodic("x"))

    def reference(self, points):
        raise NotImplementedError


class Porous(Residual):
    """Its highest derivative is not linear."""

    def __init__(self, power: Positive = 2.0) -> None:
        self.power = power

    def domain(self) -> Box:
        return Box(x=(0, 1), t=(0, 1))

    def equations(self, u):
        return u.t - ((1 + u**self.power) * u.x).x

    def conditions(self):
        return (Initial(lambda u, x: u - torch.sin(2 * PI * x)), Periodic("x"))

    def reference(self, points):
        raise NotImplementedError


def silent(done, values):
    pass


def fixed(problem: Residual, modes: int, steps: int) -> np.ndarray:
    """Return the coefficients at the end after so many equal steps."""
    grid = Grid(Semilinear(problem), modes)
    (begin, end), c = grid.system.box.bounds[grid.system.t], grid.initial()
    step = Step(grid, (end - begin) / steps)
    for k in range(steps):
        c = step(c, begin + k * step.h)
    return c


@pytest.mark.parametrize(
    ("problem", "modes", "steps"), [(Damped(), 32, 50), (Schroedinger(), 48, 200)], ids=lambda v: getattr(v, "name", v)
)
def test_steps_are_of_order_four(problem, modes, steps):
    ends = [fixed(problem, modes, steps * 2**k) for k in range(3)]
    coarse, fine = (np.abs(a - b).max() for a, b in pairwise(ends))
    assert 3.7 < np.log2(coarse / fine) < 4.4


def test_linear_problems_are_exact_with_any_step():
    problem = Torus()
    c = fixed(problem, 4, 1)
    assert Semilinear(problem).rest[0].needs == ()
    grid = Grid(Semilinear(problem), 4)
    points = np.stack([*(g.ravel() for g in grid.nodes.values()), np.ones(grid.points**2)], axis=1)
    np.testing.assert_allclose(grid.values(c).reshape(2, -1).T, problem.reference(points), rtol=0, atol=1e-13)


def test_the_mass_of_schroedinger_is_conserved():
    made = Exponential(Grid(Semilinear(Schroedinger()), FEWEST), 1e-9, 5000).run(silent)
    masses = [(made.grid.nodal(made.grid.adopt(i.coefficients[-1])) ** 2).mean() for i in made.intervals]
    assert np.ptp(masses) < 1e-8 * masses[0]


@pytest.mark.parametrize("problem", [KdV(), KuramotoSivashinsky()], ids=lambda p: p.name)
def test_implicit_lines_agree(problem):
    exponential = sciml.solve(problem, Spectral(tolerance=1e-4, method="etdrk4"))
    assert str(exponential.notes["method"]).startswith("Fourier")
    lines = sciml.solve(problem, Spectral(tolerance=1e-6))
    assert str(lines.notes["method"]).startswith("lines")
    assert lines.notes["tolerance_met"] == "yes"
    points, _ = problem.evaluation
    assert np.abs(exponential(points) - lines(points)).max() < 3e-4


def test_a_smaller_tolerance_gives_a_smaller_error():
    problem = KuramotoSivashinsky()
    found = [sciml.solve(problem, Spectral(tolerance=t, method="etdrk4")) for t in (1e-2, 1e-4)]
    errors = [problem.score(s)["max_error"] for s in found]
    assert all(s.notes["tolerance_met"] == "yes" for s in found)
    assert errors[0] > 10 * errors[1]
    assert all(e < s.notes["estimated_error"] * 10 for e, s in zip(errors, found, strict=True))


def test_a_nonlinear_highest_derivative_is_left_to_implicit_lines():
    with pytest.raises(ValueError, match="highest derivatives to be linear"):
        Semilinear(Porous())
    assert Spectral().refuses(Porous()) is None
    assert "highest derivatives to be linear" in str(Spectral(method="etdrk4").refuses(Porous()))


def test_axes_of_space_decide_how_to_march():
    names = [
        str(sciml.solve(problem, Spectral(tolerance=1e-3)).notes["method"]).split(",")[0]
        for problem in (Damped(), Torus())
    ]
    assert names == ["lines", "Fourier"]


@pytest.mark.parametrize("method", ["etdrk4", "lines"])
def test_modes_that_two_marches_lack_alike_count_as_error(method):
    problem = KdV()
    solution = sciml.solve(problem, Spectral(tolerance=1e-6, unknowns=140, method=method))
    assert solution.notes["starved"] == "yes"
    assert solution.notes["tolerance_met"] == "no"
    assert float(solution.notes["estimated_error"]) > problem.score(solution)["relative_l2"]


def test_a_clash_at_the_start_counts_by_what_it_leaves():
    problem = AllenCahn()
    solution = sciml.solve(problem, Spectral(tolerance=1e-6))
    assert solution.notes["tolerance_met"] == "yes"
    assert problem.score(solution)["max_error"] < float(solution.notes["estimated_error"]) < 1e-6


GOLDEN = [
    (AllenCahn, (0.1, 1.0), (0.8168796324,)),
    (KdV, (0.3, 1.0), (0.9672954010,)),
    (KuramotoSivashinsky, (0.3, 1.0), (-1.0318753064,)),
    (Schroedinger, (0.0, PI / 4), (-3.6932506112, -1.5409173749)),
    (GinzburgLandau, (0.3, -0.2, 0.5), (-0.40602508, -0.83407062)),
    (GrayScott, (0.3, -0.2, 0.5), (0.950404196, 0.00149491369)),
]


@pytest.mark.parametrize(("problem", "point", "values"), GOLDEN, ids=lambda v: getattr(v, "__name__", None))
def test_references_keep_their_values(problem, point, values):
    allowed = max(1e-9, problem.reference_error)
    np.testing.assert_allclose(problem().reference(np.array([point]))[0], values, rtol=0, atol=allowed)


def test_ginzburg_landau_keeps_the_symmetry_of_its_start():
    rng = np.random.default_rng(0)
    x, y, t = rng.uniform([-1, -1, 0], 1, (20, 3)).T
    u, v = GinzburgLandau().reference(np.stack([x, y, t], axis=1)).T
    turned = GinzburgLandau().reference(np.stack([-y, x, t], axis=1)).T
    np.testing.assert_allclose(turned, [v, -u], rtol=0, atol=2e-6)


def test_integers_carry_modes_to_half_a_quantum():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(32, 2, 5)) + 1j * rng.normal(size=(32, 2, 5))
    modes = Modes(np.array([0.0, 0.3, 1.0]), np.zeros((5, 2), dtype=int), values)
    read = Modes.sum(modes.breaks, modes.kept, modes.series(1e-9), 1e-9)
    assert np.abs((read.values - values).view(float)).max() <= 0.5e-9 * 16


def test_other_settings_are_marched_on_the_spot():
    stored, marched = KdV(), KdV(dispersion=0.022 * (1 + 1e-9))
    points = np.array([[-0.7, 0.4], [0.3, 1.0]])
    gap = np.abs(stored.reference(points) - marched.reference(points)).max()
    assert 0 < gap < 1e-6
