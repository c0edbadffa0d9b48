"""Random features: exactness on smooth problems, Newton, numbers that are sought, honest notes."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

import sciml
from problems.pde.advection import Advection
from problems.pde.burgers import Burgers
from problems.pde.heat import Heat
from problems.pde.inverse_diffusion import InverseDiffusion
from problems.pde.poisson_2d import Poisson2D
from problems.pde.poisson_holes import PoissonHoles
from problems.pde.wave import Wave
from sciml.clock import Clock
from sciml.errors import SolveError, UserError
from sciml.pde.conditions import Boundary
from sciml.pde.domains import Box
from sciml.pde.fields import laplacian
from sciml.pde.geometry import Shape
from sciml.pde.solids import disk
from sciml.progress import Progress
from sciml.solver import Context
from sciml.training.settings import Training
from sciml.views.residual import Residual
from solvers.pde import _cells
from solvers.pde._features import Features
from solvers.pde._rfm_search import Search
from solvers.pde._rfm_system import System
from solvers.pde.rfm import RFM

BOX = np.array([[0.0, 1.0], [-2.0, 3.0]])


class Reaction(Residual):
    """Δu + u² = f on a square with Robin conditions on one side, made from sin(2x + y) + 1/2."""

    def domain(self):
        return Box(x=(-1, 1), y=(0, 1))

    def equations(self, u, x, y):
        exact = np.sin(2 * x + y) + 0.5
        return laplacian(u) + u**2 - exact**2 + 5 * np.sin(2 * x + y)

    def conditions(self):
        wall = lambda u, x, y: u - np.sin(2 * x + y) - 0.5  # noqa: E731
        leak = lambda u, x, y: u.normal + u - 2 * np.cos(2 * x + y) - np.sin(2 * x + y) - 0.5  # noqa: E731
        sides = ({"x": -1.0}, {"y": 0.0}, {"y": 1.0})
        return (*(Boundary(wall, at=side) for side in sides), Boundary(leak, at={"x": 1.0}, name="leak"))

    def reference(self, points):
        return (np.sin(2 * points[:, :1] + points[:, 1:]) + 0.5).reshape(-1, 1)


class Disk(Residual):
    """Δu = 4 on a disk with slope 2 at its edge and a Robin condition, u = x² + y²."""

    def domain(self):
        return Shape(disk((0, 0), 1.0))

    def equations(self, u):
        return laplacian(u) - 4

    def conditions(self):
        return (Boundary(lambda u: u.normal + u - 3),)

    def reference(self, points):
        return np.sum(points**2, axis=1, keepdims=True)


def error(problem: Residual, seed: int = 0, **settings: float) -> tuple[float, Mapping[str, float | str]]:
    solution = sciml.solve(problem, RFM(**settings), seed=seed)  # pyright: ignore[reportArgumentType]
    return problem.score(solution)["relative_l2"], solution.notes


def test_features_have_exact_derivatives_and_exact_periods() -> None:
    features = Features.draw(BOX, 9, (4.0, 7.0), np.random.default_rng(0), periodic=[1])
    points = np.random.default_rng(1).uniform(BOX[:, 0], BOX[:, 1], (6, 2))
    step = 1e-5
    for order in [(0, 0), (1, 0), (0, 1), (2, 1), (3, 0)]:
        for axis in (0, 1):
            shift = step * np.eye(2)[axis]
            higher = tuple(n + (k == axis) for k, n in enumerate(order))
            slope = (features.matrix(points + shift, order) - features.matrix(points - shift, order)) / (2 * step)
            exact = features.matrix(points, higher)
            np.testing.assert_allclose(slope, exact, rtol=0, atol=1e-7 * np.abs(exact).max())
    period, extent = np.diag([1.0, 5.0])[::-1]
    np.testing.assert_allclose(
        features.matrix(points + period, (1, 1)), features.matrix(points, (1, 1)), rtol=0, atol=1e-11
    )
    assert np.abs(features.matrix(points + extent, (0, 0)) - features.matrix(points, (0, 0))).max() > 0.1


@pytest.mark.parametrize(
    ("problem", "limit"), [(Heat(), 1e-12), (Wave(), 1e-10), (Advection(), 1e-10), (Poisson2D(), 1e-12)], ids=repr
)
def test_linear_problems_are_solved_to_rounding(problem: Residual, limit: float) -> None:
    found, notes = error(problem)
    assert found < limit
    assert notes["tolerance_met"] == "yes"
    assert float(notes["held_out_residual"]) < 1e-10


def test_a_smooth_shape_is_solved_by_slopes_at_its_edge() -> None:
    assert error(Disk())[0] < 1e-9


def test_newton_solves_a_nonlinear_problem_with_a_robin_condition() -> None:
    found, notes = error(Reaction())
    assert found < 1e-10
    assert 2 <= float(notes["newton_iterations"]) < 10


def test_a_diffusivity_is_found_from_exact_data() -> None:
    problem = InverseDiffusion()
    solution = sciml.solve(problem, RFM())
    assert problem.score(solution)["relative_l2_diffusivity"] < 1e-10
    assert float(solution.notes["diffusivity"]) == pytest.approx(0.1, rel=1e-10)


def test_an_interval_of_a_diffusivity_covers_the_truth_as_often_as_it_says() -> None:
    misses = []
    for draw in range(1, 11):
        notes = sciml.solve(InverseDiffusion(noise=0.01, draw=draw), RFM(tolerance=0.02)).notes
        value, low, high = (float(notes[f"diffusivity{end}"]) for end in ("", "_low", "_high"))
        assert notes["confidence"] == 0.95
        misses.append(abs(value - 0.1) / (high - value))
        assert high - value == pytest.approx(value - low)
    assert sum(m < 1 for m in misses) >= 8
    assert max(misses) > 0.3


def test_too_few_features_are_said_to_be_too_few() -> None:
    found, notes = error(Poisson2D(amplitude=0.1, waves=16), coefficients=256)
    assert notes["tolerance_met"] == "no"
    assert notes["stop_reason"] in ("coefficients", "stagnation")
    assert found > 1e-6
    assert float(notes["held_out_residual"]) > 1e-6


@pytest.mark.parametrize("tolerance", [1e-3, 1e-7])
def test_a_tolerance_bounds_the_error_of_a_wave(tolerance: float) -> None:
    found, notes = error(Wave(), tolerance=tolerance)
    assert found < 10 * tolerance
    assert float(notes["held_out_residual"]) <= tolerance


def test_the_misfit_of_an_expansion_is_what_its_residual_says() -> None:
    problem = Heat()
    system = System(problem)
    fit, _ = Search(system, 1e-3, 0, 512, lambda _: None, patient=True).run()
    doubled = type(fit.expansion)(fit.expansion.features, 2 * fit.expansion.coefficients, fit.expansion.unknowns)
    misfits = system.misfits(doubled, system.sample(200, 7))
    decay = 2 * problem.diffusivity * np.pi**2
    inside = 2 * np.sqrt((1 - np.exp(-decay)) / decay)  # the size of 2u on the domain, relative to that of u at first
    assert misfits["initial"] == pytest.approx(1 / (1 + inside), rel=0.02)
    assert misfits["equation"] < 1e-6


def test_a_front_is_marched_on_cells_and_read_back() -> None:
    problem = Burgers()
    method = RFM(tolerance=1e-3)
    solution = sciml.solve(problem, method)
    assert problem.score(solution)["relative_l2"] < 5e-3
    assert "cells" in str(solution.notes["method"])
    assert float(solution.notes["global_held_out_residual"]) > 1e-3
    points = problem.evaluation[0][::500]
    np.testing.assert_array_equal(method.restore(problem, solution.state)(points), solution(points))


@pytest.mark.parametrize(("left", "method"), [(1e-9, "cells"), (1e9, "the whole domain")])
def test_where_no_tolerance_is_met_the_smaller_residual_wins(monkeypatch, left: float, method: str) -> None:
    whole = _cells.march(Burgers(viscosity=0.1), 1e-2, 0, Clock(Context()))
    missed = replace(whole, notes={**whole.notes, "held_out_residual": left, "tolerance_met": "no"})
    monkeypatch.setattr(_cells, "march", lambda *given: missed)
    solution = sciml.solve(Burgers(viscosity=0.1), RFM(tolerance=1e-10, coefficients=256))
    assert method in str(solution.notes["method"])
    assert solution.notes["tolerance_met"] == "no"


@pytest.mark.parametrize("problem", [Heat(), InverseDiffusion()], ids=repr)
def test_restoring_and_repeating_give_the_same_numbers(problem: Residual) -> None:
    method = RFM(tolerance=1e-4)
    first, again, other = (sciml.solve(problem, method, seed=seed) for seed in (3, 3, 4))
    points = problem.evaluation[0][::500]
    np.testing.assert_array_equal(first(points), again(points))
    np.testing.assert_array_equal(method.restore(problem, first.state)(points), first(points))
    assert not np.array_equal(first(points), other(points))


def test_the_time_limit_ends_the_search_with_the_best_so_far() -> None:
    told = []

    class Told(Progress):
        def report(self, done: float, values: Mapping[str, float]) -> None:
            told.append(done)

    solution = sciml.solve(Wave(), RFM(), training=Training(max_seconds=1e-6), progress=Told())
    assert solution.notes["stop_reason"] == "max_seconds"
    assert solution.notes["tolerance_met"] == "no"
    assert len(told) == 1
    assert 0 <= told[0] <= 1


def test_a_number_of_steps_limits_the_fits() -> None:
    solution = sciml.solve(PoissonHoles(), RFM(tolerance=1e-3), training=Training(max_steps=3))
    assert solution.notes["fits"] == 3
    assert solution.notes["stop_reason"] == "max_steps"
    assert solution.notes["tolerance_met"] == "no"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="memory"):
        sciml.solve(Heat(), RFM(coefficients=100_000))


def test_a_residual_that_is_not_finite_is_said() -> None:
    class Inverse(Heat):
        def equations(self, u):
            return u.t - 1 / u

    with pytest.raises(SolveError, match="not finite"):
        sciml.solve(Inverse(), RFM())
