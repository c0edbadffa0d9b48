"""The published problems of differential equations: golden numbers, the classical solver, calibration."""

import time
from itertools import pairwise

import numpy as np
import pytest
import sympy

import sciml
from problems.pde.advection import Advection
from problems.pde.burgers_inverse import BurgersInverse
from problems.pde.heat_2d import Heat2D
from problems.pde.helmholtz import Helmholtz
from problems.pde.inverse_diffusion import InverseDiffusion
from problems.pde.inverse_field import InverseField
from problems.pde.kovasznay import Kovasznay
from problems.pde.poisson_2d import Poisson2D
from problems.pde.wave import Wave
from sciml.errors import SolveError, UserError
from sciml.parameters import Count
from sciml.pde.conditions import Boundary, Initial, Observed
from sciml.pde.domains import Box
from sciml.pde.fields import symbol
from sciml.problem import Variable
from sciml.solver import Context, require_posed
from sciml.training.settings import Training
from sciml.views.residual import Residual, Unknown
from solvers.pde.calibration import Calibration
from solvers.pde.spectral import Spectral
from solvers.pde.tikhonov import Tikhonov

GOLDEN = [
    (Wave(), [0.3, 0.35], [-0.2377641290737884]),
    (Advection(), [1.0, 0.9], [-0.0177019251054136]),
    (Heat2D(), [0.33, 0.5, 2.0], [0.1283002844977299]),
    (Poisson2D(), [0.25, 0.5], [0.7071067811865475]),
    (Poisson2D(0.1, 10), [0.25, 0.35], [0.5300367553350505]),
    (Helmholtz(), [0.5, 0.125], [1.0]),
    (Kovasznay(), [0.0, 0.25], [1.0, -0.1533840714668299, 0.0]),
    (InverseDiffusion(), [0.5, 1.0], [0.3727078388534379, 0.1]),
    (BurgersInverse(), [0.01, 0.4], [-0.769245679323724, 0.01 / np.pi, 1.0]),
    (InverseField(), [0.5, 0.25], [0.7071067811865475, 8 / 17]),
]


def named(problem):
    return problem.name


@pytest.mark.parametrize(("problem", "point", "value"), GOLDEN, ids=lambda p: getattr(p, "name", ""))
def test_golden(problem, point, value):
    assert problem.truth(np.array([point]))[0] == pytest.approx(value, abs=1e-13)


FORWARD = [Wave(), Advection(), Heat2D(), Poisson2D(), Poisson2D(0.1, 10), Helmholtz(), Kovasznay()]


@pytest.mark.parametrize("problem", FORWARD, ids=named)
def test_the_classical_solver_agrees_with_the_closed_form(problem):
    tolerance = 1e-4 if len(problem.region.axes) > 2 else 1e-6
    solution = sciml.solve(problem, Spectral(tolerance=tolerance))
    assert solution.notes["tolerance_met"] == "yes"
    scores = problem.score(solution)
    assert scores["relative_l2"] < 1e-7
    assert scores["relative_l2"] < float(solution.notes["estimated_error"]) + 1e-14


@pytest.mark.parametrize("reynolds", [10.0, 40.0, 100.0])
def test_kovasznay_decays_at_the_textbook_rate(reynolds):
    textbook = reynolds / 2 - np.sqrt(reynolds**2 / 4 + 4 * np.pi**2)
    assert Kovasznay(reynolds).rate == pytest.approx(textbook, rel=1e-13)


def test_kovasznay_solves_the_navier_stokes_equations_as_symbols():
    x, y, rate = sympy.symbols("x y rate", real=True)
    reynolds = (rate**2 - 4 * sympy.pi**2) / rate
    u = 1 - sympy.exp(rate * x) * sympy.cos(2 * sympy.pi * y)
    v = rate / (2 * sympy.pi) * sympy.exp(rate * x) * sympy.sin(2 * sympy.pi * y)
    p = (1 - sympy.exp(2 * rate * x)) / 2
    problem = Kovasznay()
    found = problem.reference(np.array([[0.3, 0.7]]))[0]
    at = {x: 0.3, y: 0.7, rate: problem.rate}
    assert found == pytest.approx([float(f.subs(at)) for f in (u, v, p)], rel=1e-14)
    forms = {"u": u, "v": v, "p": p}
    for term in problem.terms[:3]:
        leaves = {s: forms[d.field].diff(x, d.order[0], y, d.order[1]) for d, s in term.relation.leaves.items()}
        residual = sympy.nsimplify(term.relation.expression.subs(symbol("reynolds"), reynolds)).xreplace(leaves)
        value = complex(residual.subs({x: 0.3, y: 0.7, rate: problem.rate}).evalf(30))
        assert abs(value) < 1e-12


INVERSE = [InverseDiffusion, BurgersInverse, InverseField]


@pytest.mark.parametrize("problem", INVERSE, ids=lambda p: p.__name__)
def test_noise_has_the_stated_size_and_comes_again(problem):
    exact, noisy, again, other = (
        next(c for c in made.conditions() if isinstance(c, Observed)).values
        for made in (problem(), problem(noise=0.1), problem(noise=0.1), problem(noise=0.1, draw=2))
    )
    truth = problem()
    points = next(c for c in truth.conditions() if isinstance(c, Observed)).points
    np.testing.assert_array_equal(exact, truth.reference(points)[:, 0])
    np.testing.assert_array_equal(noisy, again)
    assert not np.array_equal(noisy, other)
    assert np.std(noisy - exact) == pytest.approx(0.1, rel=3 / np.sqrt(2 * len(exact)))


@pytest.mark.parametrize("problem", INVERSE, ids=lambda p: p.__name__)
def test_inverse_problems_are_well_posed(problem):
    assert require_posed(problem()) == ()


def test_the_forward_problem_of_an_inverse_one_has_numbers_and_no_measurements():
    forward = InverseDiffusion(diffusivity=0.1).given({"diffusivity": 0.2})
    assert forward.unknowns == ()
    assert {t.name for t in forward.terms} == {"equation", "initial", "boundary"}
    assert str(forward.terms[0].relation) == "u_t - 0.2*u_xx = 0"
    point = np.array([[0.5, 1.0]])
    solved = sciml.solve(forward, Spectral())
    assert solved(point)[0, 0] == pytest.approx(np.exp(-0.2 * np.pi**2), abs=1e-9)
    assert forward.reference(point)[0, 0] == pytest.approx(np.exp(-0.2 * np.pi**2), abs=1e-14)


def test_the_trivial_answer_to_an_inverse_problem_does_not_know_the_truth():
    problem = InverseDiffusion()
    assert problem.score(problem.trivial())["relative_l2_diffusivity"] == pytest.approx(9.0)


@pytest.mark.parametrize("diffusivity", [0.02, 0.1, 3.0])
def test_calibration_finds_the_coefficient_from_exact_data(diffusivity):
    problem = InverseDiffusion(diffusivity)
    solution = sciml.solve(problem, Calibration(tolerance=1e-9))
    notes = solution.notes
    assert (notes["stop_reason"], notes["tolerance_met"]) == ("converged", "yes")
    assert problem.score(solution)["relative_l2_diffusivity"] < 1e-9
    assert float(notes["diffusivity_low"]) < diffusivity < float(notes["diffusivity_high"])


def test_calibration_finds_two_coefficients_from_exact_data():
    problem = BurgersInverse(viscosity=0.2, steepening=1.5, measurements=60)
    solution = sciml.solve(problem, Calibration(tolerance=1e-6))
    scores = problem.score(solution)
    assert scores["relative_l2_viscosity"] < 1e-8
    assert scores["relative_l2_steepening"] < 1e-8


class Decay(Residual):
    """A number that is cheap to find: the rate of an exponential from a dozen noisy values."""

    unknowns = (Unknown("rate", guess=1.0),)

    def __init__(self, draw: Count = 1) -> None:
        self.rate, self.draw = 2.0, draw

    def domain(self) -> Box:
        return Box(t=(0, 1))

    def equations(self, u):
        return u.t + self.rate * u

    def conditions(self):
        rng = np.random.default_rng(self.draw)
        times = rng.random((12, 1))
        values = self.reference(times)[:, 0] + 0.05 * rng.standard_normal(12)
        return (Initial(lambda u: u - 1), Observed("u", times, values))

    def reference(self, points):
        return np.exp(-self.rate * points)


def test_intervals_of_calibration_cover_the_truth_as_often_as_they_say():
    """With confidence 0.8, 30 draws cover 24 times in the mean; 18 to 29 is within 2.8 standard deviations."""
    covered = 0
    for draw in range(1, 31):
        notes = sciml.solve(Decay(draw), Calibration(tolerance=1e-4, confidence=0.8)).notes
        covered += float(notes["rate_low"]) < 2.0 < float(notes["rate_high"])
    assert 18 <= covered <= 29


def test_a_calibration_that_did_not_converge_claims_nothing():
    notes = sciml.solve(Decay(), Calibration(tolerance=1e-4, evaluations=1)).notes
    assert (notes["stop_reason"], notes["tolerance_met"]) == ("evaluations", "no")
    assert notes["forward_tolerance_met"] == "yes"
    assert "rate_low" not in notes


def test_calibration_takes_the_slope_to_the_side_where_there_is_a_solution(monkeypatch):
    solve = Spectral.solve

    def solve_above(self, problem, context):
        if problem.rate < 0.97:
            raise SolveError("no solution")
        return solve(self, problem, context)

    expected = sciml.solve(Decay(), Calibration(tolerance=1e-4)).notes["rate"]
    monkeypatch.setattr(Spectral, "solve", solve_above)
    notes = sciml.solve(Decay(), Calibration(tolerance=1e-4)).notes
    assert notes["stop_reason"] == "converged"
    assert notes["rate"] == pytest.approx(expected, rel=1e-4)


def test_all_forward_solves_share_one_time_limit(monkeypatch):
    left = []
    solve = Spectral.solve

    def solve_slowly(self, problem, context):
        left.append(context.training.max_seconds)
        time.sleep(0.5)
        return solve(self, problem, Context())

    monkeypatch.setattr(Spectral, "solve", solve_slowly)
    with pytest.raises(SolveError, match=r"not solved within 1\.2 s"):
        sciml.solve(Decay(), Calibration(tolerance=1e-4), training=Training(max_seconds=1.2))
    assert len(left) > 1
    assert all(b < a - 0.4 for a, b in pairwise(left))


@pytest.mark.parametrize(
    ("problem", "method"), [(Decay(), Calibration()), (InverseField(), Tikhonov()), (Wave(), Spectral())], ids=str
)
def test_classical_solvers_keep_the_time_limit(problem, method):
    with pytest.raises(SolveError, match="not solved within"):
        sciml.solve(problem, method, training=Training(max_seconds=1e-6))


class Blind(InverseDiffusion):
    """All measurements lie at the cold end, where no diffusivity shows."""

    def conditions(self):
        *given, data = super().conditions()
        return (*given, Observed("u", data.points * [0.0, 1.0], 0 * data.values))


def test_calibration_says_that_measurements_tell_nothing():
    notes = sciml.solve(Blind(), Calibration(tolerance=1e-4)).notes
    assert notes["stop_reason"] == "singular Jacobian"
    assert "diffusivity_low" not in notes


def test_calibration_refuses_what_it_cannot_fit():
    with pytest.raises(UserError, match="no number is sought"):
        sciml.solve(Wave(), Calibration())
    with pytest.raises(UserError, match="expected more measurements than the 1 numbers sought"):
        sciml.solve(InverseDiffusion(measurements=1), Calibration())


def test_tikhonov_converges_to_the_field_from_exact_data():
    """The field is analytic: three more degrees gain a factor of at least ten."""
    problem = InverseField(measurements=25)
    errors = []
    for degree in (3, 6, 9, 12):
        solution = sciml.solve(problem, Tikhonov(degree=degree))
        assert solution.notes["stop_reason"] == "converged"
        errors.append(problem.score(solution)["relative_l2_a"])
    assert all(later < sooner / 10 for sooner, later in pairwise(errors))
    assert errors[-1] < 1e-8


def test_tikhonov_smooths_as_the_noise_asks_and_states_what_noise_does():
    solver, found, stated = Tikhonov(degree=6, points=12), [], []
    for draw in range(1, 9):
        problem = InverseField(measurements=25, noise=0.1, draw=draw)
        solution = sciml.solve(problem, solver)
        assert float(solution.notes["misfit"]) == pytest.approx(0.1, rel=0.15)
        assert problem.score(solution)["relative_l2_a"] < 0.1
        found.append(solution(problem.evaluation[0])[:, 1])
        stated.append(float(solution.notes["a_deviation"]))
    scatter = float(np.sqrt(np.var(found, axis=0, ddof=1).mean()))
    assert np.mean(stated) == pytest.approx(scatter, rel=0.35)


class Sloped(Residual):
    """The conductivity of a rod whose ends are at given temperatures, itself known at one end by its slope."""

    fields = (Variable("u"), Variable("k"))
    reference_error = 1e-15

    def domain(self) -> Box:
        return Box(x=(0, 2))

    def equations(self, u, k):
        return (k * u.x).x - 0.25

    def conditions(self):
        points = np.linspace(0, 2, 41)[:, None]
        ends = (Boundary(lambda u: u, at={"x": 0}), Boundary(lambda u: u - 2, at={"x": 2}))
        return (*ends, Boundary(lambda k: k.x - 0.25, at={"x": 2}), Observed("u", points, points[:, 0]))

    def reference(self, points):
        return np.column_stack([points, 0.75 + points / 4])


def test_tikhonov_takes_another_dimension_and_a_condition_on_the_slope():
    """``(k u')' = 1/4`` and u = x leave k = x/4 + c for any c; a mean of one is what Tikhonov prefers."""
    problem = Sloped()
    solution = sciml.solve(problem, Tikhonov(degree=4))
    assert problem.score(solution)["max_error"] < 1e-5


def test_tikhonov_refuses_what_it_cannot_fit():
    with pytest.raises(UserError, match="no field is sought"):
        sciml.solve(Wave(), Tikhonov())
    with pytest.raises(UserError, match="diffusivity is a number; it seeks fields"):
        sciml.solve(InverseDiffusion(), Tikhonov())
