"""Conditions as equations on parts of a domain."""

import numpy as np
import pytest
import torch

from sciml.errors import UserError
from sciml.pde.conditions import Boundary, Condition, Initial, Observed, Periodic
from sciml.pde.domains import Box, Domain
from sciml.pde.fields import Derivative
from sciml.pde.geometry import Shape
from sciml.pde.solids import disk
from sciml.problem import Variable
from sciml.views.residual import Residual

BOX = Box(x=(0, 1), y=(0, 2), t=(0, 1))


class Wave(Residual):
    """u_tt = u_xx + u_yy with any conditions; no reference is asked for."""

    reference_error = 0.0
    fields = (Variable("u"),)

    def __init__(self) -> None:
        self.given: tuple[Condition, ...] = ()
        self.place: Domain = BOX

    def domain(self) -> Domain:
        return self.place

    def equations(self, u):
        return u.tt - u.xx - u.yy

    def conditions(self):
        return self.given

    def reference(self, points: np.ndarray) -> np.ndarray:
        return np.zeros((len(points), 1))


def terms(*given: Condition, place: Domain = BOX):
    problem = Wave()
    problem.given, problem.place = given, place
    return problem.terms[1:]


def plane(points: torch.Tensor, needs) -> dict[Derivative, torch.Tensor]:
    """Return derivatives of u = 2x + 3y - t, none beyond the first."""
    slopes = torch.tensor([2.0, 3.0, -1.0], dtype=points.dtype)[: points.shape[1]]
    found = {}
    for d in needs:
        order = np.array(d.order)
        found[d] = (
            points @ slopes if not order.sum() else slopes[order.argmax()].expand(len(points)) * (order.sum() == 1)
        )
    return found


def residual(condition: Condition, place: Domain = BOX):
    term = terms(condition, place=place)[0]
    points = term.part.sample(40, torch.Generator().manual_seed(0), "sobol", torch.float64)
    return points, term.residual(points, plane)


def test_dirichlet_neumann_and_robin() -> None:
    points, value = residual(Boundary(lambda u, x, y, t: u - (2 * x + 3 * y - t)))
    assert value.abs().max() < 1e-14
    points, slope = residual(Boundary(lambda u: u.normal))
    assert torch.equal(slope, 2 * points.extras["n_x"] + 3 * points.extras["n_y"])
    points, mixed = residual(Boundary(lambda u: u.normal + 4 * u, at={"y": 2.0}))
    torch.testing.assert_close(mixed, 3 + 4 * (2 * points.coordinates[:, 0] + 6 - points.coordinates[:, 2]))


def test_normal_derivative_on_a_disk() -> None:
    points, slope = residual(Boundary(lambda u: u.normal), Shape(disk((0, 0), 1), t=(0, 1)))
    torch.testing.assert_close(slope, points.coordinates[:, :2] @ torch.tensor([2.0, 3.0], dtype=torch.float64))


def test_initial_value_and_rate() -> None:
    points, value = residual(Initial(lambda u, x, y: u - 2 * x - 3 * y))
    assert (points.coordinates[:, 2] == 0).all()
    assert value.abs().max() < 1e-14
    assert residual(Initial(lambda u: u.t + 1))[1].tolist() == [0.0] * 40


def test_periodicity_ties_the_derivatives_below_the_equations_order() -> None:
    value, slope = terms(Periodic("x"))
    assert (str(value.relation), str(slope.relation)) == ("u = 0", "u_x = 0")
    assert residual(Periodic("x"))[1].allclose(torch.tensor(-2.0, dtype=torch.float64))


def test_a_predicate_chooses_a_part_of_the_boundary() -> None:
    points, _ = residual(Boundary(lambda u: u, at=lambda x, y: (x == 1) & (y < 0.25)))
    assert len(points) == 40
    assert (points.coordinates[:, 0] == 1).all()
    assert (points.coordinates[:, 1] < 0.25).all()
    assert points.extras["n_x"].tolist() == [1.0] * 40


def test_observed_values_are_all_taken() -> None:
    where = np.array([[0.5, 0.5, 0.5], [0.1, 0.2, 0.3]])
    points, gap = residual(Observed("u", where, np.array([2.0, 0.0])))
    assert torch.equal(points.coordinates, torch.from_numpy(where))
    torch.testing.assert_close(gap, torch.tensor([0.0, 0.5], dtype=torch.float64))


INSIDE = np.full((2, 3), 0.5)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (lambda: Boundary(lambda u: u, at=lambda x: x > 5), "matches no point"),
        (lambda: Boundary(lambda u: u, at=lambda x: x[:, None] > 0.5), r"returned bool \(\d+, 1\)"),
        (lambda: Boundary(lambda u: u, at=lambda x: 1.0), "expected booleans"),
        (lambda: Boundary(lambda u: u, at=lambda z: z > 0), "takes 'z'"),
        (lambda: Boundary(lambda u: u - np.zeros(40)), "a field meets ndarray"),
        (lambda: Boundary(lambda u, x: x - 1), "mentions no field"),
        (lambda: Boundary(lambda u: u, at={"x": 0.5}), "matches no point"),
        (lambda: Observed("u", INSIDE, np.zeros((2, 1))), r"got \(2, 3\) and \(2, 1\)"),
        (lambda: Observed("u", INSIDE[:0], np.zeros(0)), "n > 0"),
        (lambda: Observed("u", INSIDE, np.array([0, np.nan])), "finite"),
        (lambda: Observed("u", INSIDE[:, :2], np.zeros(2)), "2 columns, axes are x, y, t"),
        (lambda: Observed("u", INSIDE + 1, np.zeros(2)), "2 of 2 points lie outside"),
        (lambda: Observed("v", INSIDE, np.zeros(2)), "no field"),
    ],
)
def test_conditions_that_hold_nowhere_or_would_broadcast_are_refused(condition, message: str) -> None:
    with pytest.raises(UserError, match=message):
        residual(condition())


def test_repeated_names_are_told_apart() -> None:
    names = [
        t.name
        for t in terms(
            Boundary(lambda u: u, name="a_2"),
            Boundary(lambda u: u, name="a"),
            Boundary(lambda u: u, name="a"),
        )
    ]
    assert names == ["a_2", "a", "a_3"]
