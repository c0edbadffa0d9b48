"""The energy view and the deep Ritz method."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import sympy
import torch

import sciml
from problems.pde.poisson_2d import Poisson2D
from sciml.pde.conditions import Boundary, Condition
from sciml.pde.domains import Box
from sciml.pde.fields import divergence, grad, laplacian
from sciml.pde.geometry import Shape
from sciml.pde.solids import disk
from sciml.registry import entries
from sciml.solver import misfit
from sciml.training.settings import Training
from sciml.views.energy import Energy, variation, written_out
from sciml.views.residual import Residual
from solvers.pde.ritz import Ritz, gauss_rule

OFFERED = [name for name, entry in entries("problem").items() if "Energy" in entry.views]


class Bratu(Residual, Energy):
    """Two fields: one in a medium that is not even, one of fourth order; the energy has mixed derivatives."""

    def domain(self) -> Box:
        return Box(x=(0, 1), y=(0, 2))

    def equations(self, u: Any, v: Any, x: Any, y: Any) -> Any:
        flux = [(1 + x * y) * g for g in grad(u)]
        return 3 * divergence(flux) + 3 * torch.exp(u) - 3 * v, laplacian(laplacian(v)) - u

    fields = (sciml.problem.Variable("u"), sciml.problem.Variable("v"))

    def energy(self, u: Any, v: Any, x: Any, y: Any) -> Any:
        bending = (v.xx**2 + 2 * v.xy**2 + v.yy**2) / 2
        return (1 + x * y) * (u.x**2 + u.y**2) / 2 - torch.exp(u) + u * v - bending

    def conditions(self) -> Sequence[Condition]:
        return ()

    def reference(self, points: np.ndarray) -> np.ndarray:
        return np.zeros((len(points), 2))


class Wrong(Poisson2D):
    """The load has the wrong sign."""

    def energy(self, u: Any, x: Any, y: Any) -> Any:
        return (u.x**2 + u.y**2) / 2 + self.load(x, y) * u


class Free(Poisson2D):
    """A strip whose long sides let nothing through."""

    def load(self, x: Any, y: Any) -> Any:
        return torch.pi**2 * torch.cos(torch.pi * y)

    def conditions(self) -> Any:
        ends = [Boundary(lambda u, y: u - torch.cos(torch.pi * y), at={"x": x}, name=f"end_{x}") for x in (0.0, 1.0)]
        return (*ends, *(Boundary(lambda u: 2 * u.normal, at={"y": y}, name=f"side_{y}") for y in (0.0, 1.0)))

    def reference(self, points: np.ndarray) -> np.ndarray:
        return np.cos(np.pi * points[:, 1:])


class Leaky(Free):
    def conditions(self) -> Any:
        return (Boundary(lambda u: u.normal + u, name="leak"),)


class Round(Poisson2D):
    """A membrane on a disk, u = 1 - r²."""

    def domain(self) -> Any:
        return Shape(disk((0, 0), 1))

    def load(self, x: Any, y: Any) -> Any:
        return 4 + 0 * x

    def reference(self, points: np.ndarray) -> np.ndarray:
        return 1 - (points**2).sum(axis=1, keepdims=True)


def multiples(problem: Any) -> list[Any]:
    """Return for each field the ratio of the energy's variation to the equation of that field."""
    equations = [term.relation for term in problem.terms if term.condition is None]
    return [
        sympy.simplify(variation(problem.density, field.name) / written_out(equation))
        for field, equation in zip(problem.fields, equations, strict=True)
    ]


def test_some_problem_offers_an_energy() -> None:
    assert "poisson_2d" in OFFERED


@pytest.mark.parametrize("name", OFFERED)
def test_the_variation_of_an_energy_is_the_residual(name: str) -> None:
    assert all(ratio.is_number and ratio != 0 for ratio in multiples(entries("problem")[name].load()()))


def test_variations_of_any_order_and_of_several_fields() -> None:
    assert multiples(Bratu()) == [sympy.Rational(-1, 3), -1]


def test_a_wrong_energy_is_found_out() -> None:
    assert not multiples(Wrong())[0].is_number


def test_gauss_rule_is_exact_for_polynomials() -> None:
    points, weights = gauss_rule(Box(x=(-1, 2), y=(0, 3)), 25, torch.device("cpu"), torch.float64)
    x, y = points.coordinates.T
    assert len(points) == 25
    assert float(weights.mean()) == pytest.approx(1, abs=1e-15)
    assert float((weights * x**9 * y**8).mean() * 9) == pytest.approx((2**10 - 1) / 10 * 3**9 / 9, rel=1e-13)


def test_the_losses_are_the_energy_and_the_penalties() -> None:
    problem = Round()
    module = Ritz(condition_weight=3.0, points=1 << 14).fresh(problem, 0, torch.float64)
    module.network = torch.nn.Linear(2, 1, dtype=torch.float64)
    with torch.no_grad():
        module.network.weight.copy_(torch.tensor([[2.0, 0.0]]))
        module.network.bias.fill_(1.0)
    losses = module.losses(module.sample(torch.Generator().manual_seed(0)))
    # u = 1 + 2x: |∇u|²/2 - 4u integrates to (2 - 4) π, u² over the circle to 2π + 4π
    assert losses["energy"].item() == pytest.approx(-2 * np.pi, rel=1e-2)
    assert losses["boundary"].item() == pytest.approx(3 * 6 * np.pi, rel=5e-2)


def test_natural_conditions_need_no_training_and_others_are_refused() -> None:
    module = Ritz().fresh(Free(), 0, torch.float64)
    assert set(module.losses(module.sample(torch.Generator().manual_seed(0)))) == {"energy"}
    assert misfit(Leaky(), Ritz()) == "ritz refuses leaky: leak gives neither values nor the energy's natural condition"


@pytest.mark.parametrize(("problem", "accuracy"), [(Poisson2D(), 1e-4), (Free(), 1e-4)], ids=["poisson", "free"])
def test_ritz_solves_on_boxes(problem: Any, accuracy: float) -> None:
    solver = Ritz(width=16, depth=2, points=400, adam_steps=100, lbfgs_steps=250)
    solution = sciml.solve(problem, solver, seed=0, training=Training(accelerator="cpu"))
    assert problem.score(solution)["relative_l2"] < accuracy


def test_the_penalty_leaves_an_error_in_proportion() -> None:
    problem = Round()
    points = problem.evaluation[0]
    for weight in (10.0, 100.0):
        solver = Ritz(width=12, depth=2, points=4096, condition_weight=weight, adam_steps=100, lbfgs_steps=150)
        solution = sciml.solve(problem, solver, seed=0, training=Training(accelerator="cpu"))
        # with a slope of -2 at the boundary the minimum of energy and penalty is 1 - r² + 1/w
        assert (solution(points) - problem.reference(points)).mean() == pytest.approx(1 / weight, rel=0.1)
