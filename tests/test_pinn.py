"""Networks trained on residuals: what is imposed, what is trained, and how well."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sciml
from problems.pde.burgers import Burgers
from problems.pde.heat import Heat
from sciml.pde.conditions import Boundary, Condition, Initial, Observed, Periodic
from sciml.pde.domains import Box
from sciml.pde.fields import symbol
from sciml.runs.caveats import caveats
from sciml.training.settings import Training
from sciml.views.residual import Residual
from solvers.pde import pinn
from solvers.pde._imposed import impose
from solvers.pde.dgm import DGM
from solvers.pde.pinn import PINN


class Advection(Residual):
    """A periodic wave, u_t + u_x = 0, whose value in the middle is observed as well."""

    reference_error = 1e-15

    def domain(self) -> Box:
        return Box(x=(0, 2), t=(0, 1))

    def equations(self, u: Any) -> Any:
        return u.t + u.x

    def conditions(self) -> Sequence[Condition]:
        points = np.array([[1.0, 0.5], [0.3, 0.2]])
        observed = Observed("u", points, self.reference(points)[:, 0])
        return Initial(lambda u, x: u - torch.sin(torch.pi * x)), Periodic("x"), observed

    def reference(self, points: np.ndarray) -> np.ndarray:
        return np.sin(np.pi * (points[:, :1] - points[:, 1:]))


class Travelling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(torch.pi * (x[:, :1] - x[:, 1:]))


class Decaying(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(-0.1 * torch.pi**2 * x[:, 1:]) * torch.sin(torch.pi * x[:, :1])


class Mixed(Heat):
    """Different conditions at each end: a value that does not meet the start, and a flux."""

    def conditions(self) -> Sequence[Condition]:
        return (
            Initial(lambda u, x: 3 * u - 3 * x**2),
            Boundary(lambda u, t: u - torch.exp(t), at={"x": 0.0}, name="jump"),
            Boundary(lambda u: u.normal, at={"x": 1.0}, name="flux"),
        )


class String(Heat):
    """A string that starts with a velocity; its ends move along with what the start says."""

    def equations(self, u: Any) -> Any:
        return u.tt - u.xx

    def conditions(self) -> Sequence[Condition]:
        return (
            Initial(lambda u, x: u.t - 2 * x - 1, name="velocity"),
            Initial(lambda u, x: u - torch.cos(x)),
            Boundary(lambda u, t: u - 1 - torch.sin(t), at={"x": 0.0}, name="left"),
            Boundary(lambda u, t: u - torch.cos(1 + 0 * t) - 3 * t, at={"x": 1.0}, name="right"),
        )


class Beam(Heat):
    """A beam that is clamped at a wall, moved there, and clamped again at the other end."""

    def equations(self, u: Any) -> Any:
        return u.t + u.xxxx

    def conditions(self) -> Sequence[Condition]:
        return (
            Boundary(lambda u, t: u - t**2, at={"x": 0.0}, name="wall"),
            Boundary(lambda u: 3 * u.x - 6, at={"x": 0.0}, name="slope"),
            Boundary(lambda u, t: u - 5 - t, at={"x": 1.0}, name="end"),
            Boundary(lambda u, t: u.x + t, at={"x": 1.0}, name="bend"),
        )


class Jerk(String):
    """The ends do not take part in the velocity at the start."""

    def conditions(self) -> Sequence[Condition]:
        velocity, *_ = super().conditions()
        return velocity, Initial(lambda u, x: u - x), Boundary(lambda u, x: u - x)


class Broken(Advection):
    """A start whose slope does not repeat, for an equation of second order."""

    def equations(self, u: Any) -> Any:
        return u.t + u.xx

    def conditions(self) -> Sequence[Condition]:
        return Initial(lambda u, x: u - x * (2 - x)), Periodic("x")


class Corner(Heat):
    """Values that meet at the corners: x + t on all faces."""

    def conditions(self) -> Sequence[Condition]:
        return Initial(lambda u, x: u - x), Boundary(lambda u, x, t: 2 * (u - x - t))


def untrained(problem: Residual, solver: PINN | DGM, seed: int = 0) -> Any:
    return solver.fresh(problem, seed, torch.float64)


@pytest.mark.parametrize(
    ("problem", "exact"), [(Heat(), Decaying()), (Advection(), Travelling())], ids=["heat", "advection"]
)
def test_the_exact_solution_has_no_loss_in_any_term(problem: Residual, exact: nn.Module) -> None:
    solver = untrained(problem, PINN(impose=False))
    batch = solver.sample(torch.Generator().manual_seed(0))
    solver.network = exact
    losses = solver.losses(batch)
    assert set(losses) == {term.name for term in problem.terms if not isinstance(term.condition, Periodic)}
    assert max(float(loss) for loss in losses.values()) < 1e-25
    assert solver.held_out_residual(torch.device("cpu")) < 1e-13


@pytest.mark.parametrize("windows", [1, 3])
def test_what_is_left_of_an_equation_is_told_as_a_share_of_what_it_adds_up(windows: int) -> None:
    solver = untrained(Heat(diffusivity=0.3), PINN(impose=False, windows=windows))
    if windows == 1:
        solver.network = Decaying()
    else:
        solver.network.networks = nn.ModuleList(Decaying() for _ in range(windows))
    left = solver.held_out_residual(torch.device("cpu"))
    assert left == pytest.approx((0.3 - 0.1) / (0.3 + 0.1), rel=1e-12)  # of κ u_xx and u_t, which decays by κ = 0.1
    assert caveats({"held_out_residual": left}) == ("equations left unsolved to 50%",)
    assert caveats({"held_out_residual": 0.009}) == ()


def test_losses_are_the_mean_of_the_losses_of_each_share_of_the_rows() -> None:
    solver = untrained(Advection(), PINN())
    batch = solver.sample(torch.Generator().manual_seed(0))
    whole = solver.losses(batch)
    shares = [solver.losses({name: rows[rank::2] for name, rows in batch.items()}) for rank in range(2)]
    for name, loss in whole.items():
        assert float(loss) == pytest.approx(float(shares[0][name] + shares[1][name]) / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({"width": 64, "depth": 1}, "lm"),
        ({"width": 63, "depth": 2}, "lm"),
        ({"width": 64, "depth": 2}, "lbfgs"),
        ({"width": 63, "depth": 1, "network": "fourier"}, "lm"),
        ({"width": 64, "depth": 1, "network": "fourier"}, "lbfgs"),
        ({"width": 50, "activation": "sin"}, "lm"),
        ({"width": 50}, "lbfgs"),
        ({"width": 8, "network": "piratenet", "factored": True}, "lbfgs"),
    ],
)
def test_small_networks_are_trained_by_gauss_newton(settings: dict[str, Any], method: str) -> None:
    solver = PINN(**settings)
    assert solver.method == method
    network = untrained(Burgers(), PINN(**{"activation": "tanh", **settings})).network
    width = settings["width"]
    squares = sum(p.numel() for p in network.parameters() if p.ndim == 2 and p.shape == (width, width))
    assert method == ("lm" if squares <= 4000 and "factored" not in settings else "lbfgs")


def test_extrema_are_counted_once_and_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    monkeypatch.setattr(pinn, "extrema", lambda problem: counted.append(problem) or {"x": 1})
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 1),
        ({"windows": 3}, 1),
        ({"activation": "tanh"}, 0),
        ({"network": "dgm"}, 0),
        ({"activation": "tanh", "network": "fourier"}, 1),
        ({"activation": "sin", "frequency": 2.0}, 0),
    ]
    for settings, expected in cases:
        counted.clear()
        untrained(Burgers(), PINN(width=4, **settings))
        assert len(counted) == expected, settings


def test_weights_multiply_the_conditions_alone() -> None:
    light, heavy = (untrained(Heat(), PINN(impose=False, condition_weight=w)) for w in (1.0, 7.0))
    batch = light.sample(torch.Generator().manual_seed(0))
    before, after = light.losses(batch), heavy.losses(batch)
    ratios = {name: float(after[name] / before[name]) for name in before}
    assert ratios == pytest.approx({"equation": 1.0, "initial": 7.0, "boundary": 7.0}, rel=1e-12)


@pytest.mark.parametrize("problem", [Heat(), Burgers(), Corner()], ids=["heat", "burgers", "corner"])
def test_imposed_values_hold_whatever_the_weights(problem: Residual) -> None:
    solver = untrained(problem, PINN(), seed=3)
    soft = untrained(problem, PINN(impose=False))
    batch = soft.sample(torch.Generator().manual_seed(0))
    assert set(solver.losses(batch)) == {"equation"}
    soft.network = solver.network
    losses = soft.losses(batch)
    assert float(losses["initial"]) < 1e-25
    assert float(losses["boundary"]) < 1e-25
    assert float(losses["equation"]) > 1e-4


@pytest.mark.parametrize("problem", [String(), Beam()], ids=["string", "beam"])
def test_imposed_derivatives_hold_whatever_the_weights(problem: Residual) -> None:
    solver = untrained(problem, PINN(), seed=3)
    soft = untrained(problem, PINN(impose=False))
    batch = soft.sample(torch.Generator().manual_seed(0))
    assert set(solver.losses(batch)) == {"equation"}
    soft.network = solver.network
    losses = soft.losses(batch)
    assert max(float(loss) for name, loss in losses.items() if name != "equation") < 1e-25
    assert float(losses["equation"]) > 1e-4


def test_data_that_do_not_meet_or_repeat_stay_to_be_trained() -> None:
    assert impose(Jerk())[1] == {"initial", "boundary"}
    assert impose(Broken())[1] == {"periodic_1", "periodic_2"}


def test_what_is_imposed_has_size_one_and_vanishes_on_its_faces_alone() -> None:
    (data,), _ = impose(Beam())
    x = np.linspace(0, 1, 201)
    distance = np.array([float(data.distance.subs(symbol("x"), value)) for value in x])
    assert distance.max() == pytest.approx(1, abs=1e-12)
    assert distance[1:-1].min() > 0
    assert np.abs(distance[[0, 1, -1, -2]]).max() < 1e-3


def test_what_contradicts_or_is_no_value_stays_to_be_trained() -> None:
    data, imposed = impose(Mixed())
    assert imposed == {"initial"}
    assert list(data[0].given) == [(1, 0, 0)]
    assert impose(Advection())[1] == {"initial", "periodic"}


def test_periodic_fields_repeat_to_rounding() -> None:
    function = untrained(Advection(), PINN(impose=False)).function()
    t = np.linspace(0, 1, 20)
    left, right = (function(np.stack([np.full_like(t, x), t], axis=1)) for x in (0.0, 2.0))
    assert np.abs(left - right).max() < 1e-13
    assert np.ptp(left) > 1e-3


def test_pinn_solves_heat_and_comes_back_from_its_state() -> None:
    problem, solver = Heat(), PINN(width=16, depth=2, points=256, method="lbfgs", adam_steps=200, steps=150)
    solution = sciml.solve(problem, solver, seed=0, training=Training(accelerator="cpu"))
    assert problem.score(solution)["relative_l2"] < 1e-4
    points = problem.evaluation[0][::97]
    np.testing.assert_array_equal(solver.restore(problem, solution.state)(points), solution(points))


def test_dgm_draws_anew_and_learns_all_conditions() -> None:
    problem, solver = Heat(), DGM(width=16, depth=1, points=128, condition_points=64, adam_steps=400)
    generator = torch.Generator().manual_seed(0)
    module = untrained(problem, solver)
    first, second = module.sample(generator), module.sample(generator)
    assert not torch.equal(first["equation/coordinates"], second["equation/coordinates"])
    assert set(module.losses(first)) == {"equation", "initial", "boundary"}
    solution = sciml.solve(problem, solver, seed=0, training=Training(accelerator="cpu"))
    assert problem.score(solution)["relative_l2"] < 0.05
