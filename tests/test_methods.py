"""Methods of training beyond Adam and L-BFGS: what they do at one step, and that they resume in the same bits."""

import csv
import math
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from problems.pde.heat import Heat
from problems.pde.kovasznay import Kovasznay
from problems.pde.wave import Wave
from sciml.errors import UserError
from sciml.pde import taylor
from sciml.solution import Solution
from sciml.solver import Context
from sciml.training.natural_gradient import NaturalGradient
from sciml.training.quasi_newton import SelfScaledQuasiNewton, Update, scaling
from sciml.training.settings import Training
from sciml.views.residual import Residual
from solvers.pde._weighting import CHUNKS, Balance, Weighting
from solvers.pde.pinn import PINN


def minimise(
    function: Callable[[Tensor], Tensor], start: list[float], steps: int, update: Update, curvature: float = 0.9
) -> tuple[list[float], SelfScaledQuasiNewton, Tensor]:
    """Return the loss at the start of each step, the optimiser and the point where it ends."""
    x = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = SelfScaledQuasiNewton([x], update, curvature)

    def closure() -> float:
        x.grad = None
        loss = function(x)
        loss.backward()
        return loss.item()

    return [optimizer.step(closure) for _ in range(steps)], optimizer, x.detach()


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@pytest.mark.parametrize("update", ["bfgs", "broyden"])
def test_rosenbrocks_valley_is_followed_to_its_end(update: Update) -> None:
    losses, _, x = minimise(rosenbrock, [-1.2, 1.0], 45, update)
    assert losses[0] == pytest.approx(24.2)
    assert all(after <= before for before, after in pairwise(losses))
    assert torch.allclose(x, torch.ones(2, dtype=torch.float64), atol=1e-10)


@pytest.mark.parametrize("update", ["bfgs", "broyden"])
def test_a_quadratic_ends_in_as_many_exact_steps_as_it_has_dimensions(update: Update) -> None:
    root = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    hessian = root @ root.T + torch.eye(6)
    losses, *_ = minimise(lambda x: x @ hessian @ x / 2, [1.0, 2, 3, 4, 5, 6], 7, update, curvature=1e-10)
    assert losses[5] > 1e-3
    assert losses[6] < 1e-20 * losses[0]


@pytest.mark.parametrize("update", ["bfgs", "broyden"])
def test_the_inverse_hessian_meets_the_secant_equation_and_stays_positive(update: Update) -> None:
    start = [-1.2, 1.0, 0.5]
    before = minimise(rosenbrock, start, 4, update)[2]
    _, optimizer, after = minimise(rosenbrock, start, 5, update)
    points = [point.clone().requires_grad_() for point in (before, after)]
    change = torch.autograd.grad(rosenbrock(points[1]), points[1])[0]
    change = change - torch.autograd.grad(rosenbrock(points[0]), points[0])[0]
    inverse = optimizer.memory["inverse"]
    assert torch.allclose(inverse @ change, after - before, rtol=1e-9, atol=1e-12)
    assert torch.linalg.eigvalsh(inverse).min() > 0


def test_a_step_is_found_however_short_it_has_to_be() -> None:
    losses, *_ = minimise(lambda x: torch.log1p(1e16 * x.square().sum()), [1e-9], 4, "broyden")
    assert losses[3] < 1e-10 * losses[0]


def test_the_scaling_is_that_of_the_formulas() -> None:
    # b = 2, h = 1: a = 1, ρ = 1 - √½, θ = -½ within [-√½, 1/ρ], σ = ½, q = √2, t = ½
    assert scaling(2.0, 1.0, 3) == pytest.approx((0.5, 3.0), rel=1e-12)
    # b = ½, h = 3: a = ½, ρ = 1, θ = 1, σ = 3/2, q = √⅔, t = 1
    assert scaling(0.5, 3.0, 3) == pytest.approx((math.sqrt(2 / 3), 0.0), rel=1e-12)
    # b = 1, h = 2: a = 1, ρ = 2 - √2, θ = 0: BFGS, unscaled
    assert scaling(1.0, 2.0, 3) == pytest.approx((1.0, 1.0), rel=1e-12)
    # b = 1e8, h = 1e9: a = 1e17, ρ = h / 2a = 5e-9, θ = (ρ - 1) / a, σ = ρ < t q
    assert scaling(1e8, 1e9, 10) == pytest.approx((5e-9, 2e8), rel=1e-6)


def test_an_inverse_hessian_too_large_to_keep_is_refused() -> None:
    with pytest.raises(UserError, match="4 GiB"):
        SelfScaledQuasiNewton([torch.nn.Parameter(torch.zeros(30_000, dtype=torch.float64))])


def test_the_natural_gradient_is_the_damped_least_squares_step_near_the_momentum() -> None:
    generator = torch.Generator().manual_seed(0)
    matrix, right = torch.randn(5, 8, generator=generator).double(), torch.randn(5, generator=generator).double()
    x = torch.nn.Parameter(torch.zeros(8, dtype=torch.float64))
    optimizer = NaturalGradient([x], damping=0.1, momentum=0.5, norm=1e6)
    steps = []
    for _ in range(2):
        before = x.detach().clone()
        optimizer.advance(lambda wanted: (matrix @ x.detach() - right, matrix if wanted else None))
        steps.append((before, optimizer.state[x]["momentum"].clone()))
    (start, first), (middle, second) = steps
    damping = 0.1 * float((matrix @ matrix.T).diagonal().mean())
    # φ minimises |J φ - r|² + λ |φ - μ φ₋|²
    normal = matrix.T @ matrix + damping * torch.eye(8, dtype=torch.float64)
    for at, found, kept in ((start, first, torch.zeros_like(first)), (middle, second, 0.5 * first)):
        expected = torch.linalg.solve(normal, matrix.T @ (matrix @ at - right) + damping * kept)
        assert torch.allclose(found, expected, rtol=1e-8, atol=1e-10)


def test_a_natural_step_is_no_longer_than_allowed() -> None:
    x = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    eye = torch.eye(2, dtype=torch.float64)
    optimizer = NaturalGradient([x], norm=0.25)
    optimizer.advance(lambda wanted: (x.detach() - torch.tensor([3.0, 4.0]).double(), eye if wanted else None))
    assert float(x.detach().norm()) == pytest.approx(0.25, rel=1e-6)
    assert np.allclose(x.detach().numpy(), [0.15, 0.2])


METHODS: dict[str, dict[str, Any]] = {
    "soap": {"method": "soap"},
    "ssbfgs": {"method": "ssbfgs", "adam_steps": 6, "resample_every": 9},
    "ssbroyden": {"method": "ssbroyden", "adam_steps": 6, "resample_every": 9},
    "engd": {"method": "engd"},
    "lm": {"method": "lm", "resample_every": 7},
    "gradient_norm": {"method": "adam", "balance": "gradient_norm", "impose": False},
    "ntk": {"method": "adam", "balance": "ntk", "impose": False},
    "relobralo": {"method": "soap", "balance": "relobralo", "impose": False},
    "causal": {"method": "lm", "resample_every": 5, "causality": 5.0},
    "windows": {"method": "lm", "windows": 2, "resample_every": 4, "steps": 9},
    "soft windows": {"method": "ssbroyden", "windows": 2, "steps": 8, "adam_steps": 3, "impose": False},
    "causal windows": {"method": "ssbroyden", "windows": 2, "steps": 8, "adam_steps": 3, "causality": 1.0},
}


def train(folder: Path | None = None, resume: bool = False, problem: Residual | None = None, **given: Any) -> Solution:
    limits = {name: given.pop(name) for name in ("max_steps", "target_loss", "patience") if name in given}
    solver = PINN(**{"width": 6, "depth": 2, "points": 48, "condition_points": 12, "steps": 18, **given})
    training = Training(accelerator="cpu", check_every=4, checkpoint_every=4, **limits)
    return solver.solve(problem or Heat(), Context(3, training, folder, resume))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize("method", METHODS)
def test_a_training_that_was_stopped_goes_on_in_the_same_bits(tmp_path: Path, method: str) -> None:
    whole = train(tmp_path / "whole", **METHODS[method])
    for cut in (7, 13):
        train(tmp_path / "cut", resume=True, max_steps=cut, **METHODS[method])
    again = train(tmp_path / "cut", resume=True, **METHODS[method])
    assert again.notes["steps"] == whole.notes["steps"]
    assert all(np.array_equal(again.state[name], whole.state[name]) for name in whole.state)
    kept = {row["step"]: row for row in rows(tmp_path / "cut")}
    assert all(kept[row["step"]] == row for row in rows(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("method", "steps", "error"),
    [("ssbroyden", 100, 1e-4), ("ssbfgs", 100, 1e-4), ("engd", 40, 1e-2), ("soap", 200, 3e-2)],
)
def test_heat_is_solved(method: str, steps: int, error: float) -> None:
    given = {"adam_steps": 50} if method.startswith("ss") else {}
    solution = train(method=method, steps=steps, width=12, points=200, **given)
    assert Heat().score(solution)["relative_l2"] < error


def weighting(balance: Balance = "none", causality: float = 0.0) -> Weighting:
    span = (1.0, 3.0)
    return Weighting(["equation", "initial"], ["equation"], ["initial"], balance, causality, span, 1, torch.float64)


def test_causal_weights_fall_with_the_losses_of_earlier_times() -> None:
    moments = 1 + 2 * (torch.arange(CHUNKS, dtype=torch.float64) + 0.5) / CHUNKS
    coordinates = torch.stack([torch.zeros_like(moments), moments], dim=1).repeat(2, 1)
    residual = torch.cat([torch.arange(CHUNKS), 2 - torch.arange(CHUNKS)]).double() / 8
    weights = weighting(causality=0.3)
    weights.renew(None, lambda: {"equation": residual, "initial": torch.full((4,), 2.0).double()}, coordinates, [])
    loss = [(k**2 + (2 - k) ** 2) / 2 / 64 for k in range(CHUNKS)]
    expected = [math.exp(-0.3 * (4 + sum(loss[:k]))) for k in range(CHUNKS)]
    found = weights.factor("equation", coordinates).square()
    assert found.tolist() == pytest.approx(expected * 2, rel=1e-12)
    assert float(weights.factor("initial", coordinates)) == 1


@pytest.mark.parametrize("balance", ["gradient_norm", "ntk"])
def test_balanced_terms_pull_with_the_same_force(balance: Balance) -> None:
    layer = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
    x = torch.tensor([[1.0], [2.0]], dtype=torch.float64)

    def residuals() -> dict[str, Tensor]:
        value = taylor.derivatives(layer, x, [(0,)])[0, :, 0]
        return {"equation": 10 * (value - 1), "initial": value - 3}

    with torch.no_grad():
        layer.weight.fill_(2.0)
    weights = weighting(balance)
    for _ in range(300):
        weights.renew(0, residuals, x, [layer.weight])
    if balance == "ntk":  # mean |∂r/∂w|² is 100 · 2.5 and 2.5
        expected = [(250 + 2.5) / 250, (250 + 2.5) / 2.5]
    else:  # ∂L/∂w = mean 2 r ∂r/∂w: 100 (1 + 6) and -1 + 2
        expected = [701 / 700, 701]
    assert weights.terms.tolist() == pytest.approx(expected, rel=1e-9)


def test_relative_balancing_favours_the_term_that_lags_behind() -> None:
    weights = weighting("relobralo")
    for step, (first, second) in enumerate([(4.0, 4.0), (4.0, 1.0)]):
        losses = {"equation": torch.tensor([first]).double().sqrt(), "initial": torch.tensor([second]).double().sqrt()}
        weights.renew(step, lambda losses=losses: losses, torch.zeros(1, 2), [])
    lagging = 2 / (1 + math.exp(-7.5))  # 2 softmax((1, 1/4) / 0.1)
    kept, drawn = 0.999 + 0.001 * lagging, lagging  # by whether the look-back keeps the weights or goes to the start
    assert float(weights.terms[0]) in (pytest.approx(kept, rel=1e-9), pytest.approx(drawn, rel=1e-9))
    assert float(weights.terms.sum()) == pytest.approx(2, rel=1e-12)


def handed(solution: Solution, moment: float, step: float = 1e-7) -> tuple[np.ndarray, np.ndarray]:
    """Return the jump at a moment and the misfit of the slopes on its two sides."""
    x = np.linspace(0, 1, 21)
    before, at, after = (solution(np.stack([x, np.full(21, t)], 1)) for t in (moment - step, moment, moment + step))
    return after - before, (after - at) / step - (at - before) / step


def test_two_windows_of_heat_meet_and_solve_it() -> None:
    solution = train(windows=2, steps=40, width=10)
    jump, _ = handed(solution, 0.5)
    assert np.abs(jump).max() < 1e-6
    assert Heat().score(solution)["relative_l2"] < 1e-4


def test_the_velocity_is_handed_over_where_it_was_imposed() -> None:
    solution = train(problem=Wave(), windows=2, steps=3)
    jump, kink = handed(solution, 0.5, 1e-6)
    assert np.abs(jump).max() < 1e-4
    assert np.abs(kink).max() < 1e-3
    jump, kink = handed(solution, 0.25, 1e-6)
    assert np.abs(kink).max() < 1e-3  # as smooth as within a window


def test_a_handover_that_is_trained_leaves_a_small_jump() -> None:
    solution = train(windows=2, steps=40, width=10, impose=False)
    jump, _ = handed(solution, 0.5)
    assert 0 < np.abs(jump).max() < 1e-2
    assert Heat().score(solution)["relative_l2"] < 1e-2


def test_a_window_that_met_the_target_makes_way_for_the_next(tmp_path: Path) -> None:
    solution = train(tmp_path, windows=2, steps=40, target_loss=1e-3)
    history = rows(tmp_path)
    assert solution.notes["stop_reason"] == "target_loss"
    assert {row["stage"] for row in history} == {"1", "2"}
    assert float(solution.notes["steps"]) < 80
    assert float(history[-1]["loss"]) <= 1e-3


def test_windows_and_causality_need_time() -> None:
    for solver in (PINN(windows=2), PINN(causality=1.0)):
        assert "need time" in str(solver.refuses(Kovasznay()))
    assert PINN(windows=2).refuses(Heat()) is None


def test_soap_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(UserError, match=r"sciml-solvers\[optimizers\]"):
        train(method="soap")
