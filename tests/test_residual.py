"""How a residual problem is scored, and that what users write first is taken."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sciml
from problems.pde.heat import Heat
from sciml.pde.conditions import Boundary, Initial, Observed
from sciml.pde.domains import Box
from sciml.pde.fields import Field, laplacian
from sciml.pde.taylor import derivatives
from sciml.problem import Variable
from sciml.solution import Solution
from sciml.training.settings import Training
from sciml.views.residual import Residual
from solvers.pde.pinn import PINN


class Poisson(Residual):
    """-Δu = 2d on the unit cube of five dimensions, u = -|x|² on its boundary."""

    reference_error = 1e-15

    def domain(self) -> Box:
        return Box(a=(0, 1), b=(0, 1), c=(0, 1), d=(0, 1), e=(0, 1))

    def equations(self, u: Field) -> Field:
        return laplacian(u) + 10

    def conditions(self) -> tuple[Boundary]:
        return (Boundary(lambda u, a, b, c, d, e: u + a * a + b * b + c * c + d * d + e * e),)

    def reference(self, points: np.ndarray) -> np.ndarray:
        return -np.square(points).sum(axis=1, keepdims=True)


class Plucked(Heat):
    """Heat that starts as a hat."""

    def conditions(self) -> tuple[Initial, Boundary]:
        return Initial(lambda u, x: u - (1 - abs(2 * x - 1))), Boundary(lambda u: u)


class Pair(Heat):
    """Two fields of different size, of which the second stays zero."""

    fields = (Variable("u"), Variable("v"))

    def equations(self, u: Field, v: Field) -> tuple[Field, Field]:
        return u.t - u.xx, v.t - v.xx

    def conditions(self) -> tuple[Boundary]:
        return (Boundary(lambda u, v: (u, v)),)

    def reference(self, points: np.ndarray) -> np.ndarray:
        return np.stack([1e5 + 0 * points[:, 0], 0 * points[:, 0]], axis=1)


def test_in_many_dimensions_the_inside_is_scored() -> None:
    problem = Poisson()
    points, _ = problem.evaluation
    assert ((points > 0) & (points < 1)).all()
    exact = Solution(problem, problem.reference)
    assert problem.score(exact)["relative_l2"] == 0
    assert problem.table(exact).arrays["u"][1].shape == (41, 41, 1, 1, 1)


def test_a_kink_in_the_data_is_trained_and_not_imposed() -> None:
    module = PINN(width=4, depth=1).fresh(Plucked(), 0, torch.float64)
    assert isinstance(module, PINN)
    assert [group.name for group in module.groups] == ["equation", "initial"]
    solution = sciml.solve(Plucked(), PINN(width=4, depth=1), training=Training(max_steps=2))
    np.testing.assert_allclose(solution([[0.0, 0.5], [1.0, 0.5]]), 0, atol=1e-14)


def test_fields_count_alike_whatever_their_units_and_a_zero_reference_is_met_absolutely() -> None:
    problem = Pair()
    scores = problem.score(Solution(problem, lambda points: problem.reference(points) + np.array([0, 0.5])))
    assert scores["relative_l2_u"] == 0
    assert scores["relative_l2_v"] == pytest.approx(0.5)
    assert scores["relative_l2"] == pytest.approx(0.5 / np.sqrt(2))


def test_observations_are_taken_as_lists() -> None:
    observed = Observed("u", [[0.5, 0.5]], [1.0])  # pyright: ignore[reportArgumentType]
    assert len(observed.part(Heat().region).sample(1, torch.Generator(), "uniform", torch.float64)) == 1


class Operators(nn.Module):
    """Uses operators of Python that no series has."""

    def forward(self, x: Tensor) -> Tensor:
        return abs(x - 3.0) ** 2 * torch.where(x > 5, 0.0, 1.0)


def test_a_network_with_operators_beyond_series_is_differentiated_all_the_same() -> None:
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    found = derivatives(Operators(), x, [(0,), (1,), (2,)])
    expected = torch.stack([(x - 3) ** 2, 2 * (x - 3), torch.full_like(x, 2.0)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
