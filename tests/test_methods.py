"""Methods of training beyond Adam and L-BFGS: what they do at one step, and that they resume in the same bits."""

import csv
import itertools
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
from problems.pde.inverse_diffusion import InverseDiffusion
from problems.pde.kovasznay import Kovasznay
from problems.pde.wave import Wave
from sciml.errors import UserError
from sciml.pde import taylor
from sciml.pde.conditions import Boundary, Initial, Periodic
from sciml.solution import Solution
from sciml.solver import Context
from sciml.training.natural_gradient import NaturalGradient
from sciml.training.quasi_newton import SelfScaledQuasiNewton, Update, scaling
from sciml.training.settings import Training
from sciml.views.residual import Residual
from solvers.pde._weighting import CHUNKS, LOOKBACK, SETTLED, Balance, Weighting
from solvers.pde._windows import BEFORE
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
    limits = {
        name: given.pop(name)
        for name in ("max_steps", "max_seconds", "target_loss", "patience", "devices")
        if name in given
    }
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
    given: dict[str, Any] = {"adam_steps": 50} if method.startswith("ss") else {}
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


@pytest.mark.parametrize("looks_back", [False, True])
def test_relative_balancing_favours_the_term_that_lags_behind(looks_back: bool) -> None:
    weights = weighting("relobralo")
    draws = (float(torch.rand((), generator=torch.Generator().manual_seed(key + 1))) for key in itertools.count())
    weights.key.fill_(next(key for key, draw in enumerate(draws) if (draw < LOOKBACK) != looks_back))
    for step, (first, second) in enumerate([(4.0, 4.0), (4.0, 1.0)]):
        losses = {"equation": torch.tensor([first]).double().sqrt(), "initial": torch.tensor([second]).double().sqrt()}
        weights.renew(step, lambda losses=losses: losses, torch.zeros(1, 2), [])
    lagging = 2 / (1 + math.exp(-7.5))  # 2 softmax((1, 1/4) / 0.1)
    expected = lagging if looks_back else 0.999 + 0.001 * lagging  # the look-back goes to the losses at the start
    assert float(weights.terms[0]) == pytest.approx(expected, rel=1e-9)
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


class Door(Heat):
    """Heat whose left end is told apart before and after a moment."""

    def __init__(self, until: float = 0.75) -> None:
        super().__init__()
        self.until = until

    def conditions(self) -> Any:
        initial, _ = super().conditions()
        early = Boundary(lambda u, t: u - t, at=lambda t: t < 0.25, name="early")
        late = Boundary(lambda u: u, at=lambda x, t: (t > self.until) & (x == 0), name="late")
        return (initial, early, late)


def windows_of(problem: Residual, **given: Any) -> PINN:
    module = PINN(windows=2, width=4, depth=1, points=64, condition_points=64, **given)
    fresh = module.fresh(problem, 0, torch.float64)
    assert isinstance(fresh, PINN)
    return fresh


def test_a_condition_keeps_its_times_in_windows() -> None:
    module = windows_of(Door(), impose=False)
    times = []
    for stage in range(2):
        module.begin(stage)
        batch = module.sample(torch.Generator().manual_seed(0))
        drawn = {name.split("/")[0]: rows[:, 1] for name, rows in batch.items() if name.endswith("/coordinates")}
        times.append({name: (float(t.min()), float(t.max())) for name, t in drawn.items()})
    first, second = times
    assert first.keys() == {"equation", "initial", "early"}
    assert second.keys() == {"equation", "initial", "late"}
    assert 0 <= first["early"][0] < 0.02
    assert 0.23 < first["early"][1] < 0.25
    assert 0.75 < second["late"][0] < 0.77
    assert 0.98 < second["late"][1] <= 1
    assert 0 <= first["equation"][0] < 0.02
    assert 0.48 < first["equation"][1] <= 0.5
    assert 0.5 <= second["equation"][0] < 0.52
    assert 0.98 < second["equation"][1] <= 1
    assert (first["initial"], second["initial"]) == ((0, 0), (0.5, 0.5))


def test_the_history_has_a_column_for_the_conditions_of_every_window(tmp_path: Path) -> None:
    train(tmp_path, problem=Door(), windows=2, steps=4)
    first, *_, last = rows(tmp_path)
    assert (first["stage"], first["loss_late"], last["stage"], last["loss_early"]) == ("1", "", "2", "")
    assert float(first["loss_early"]) > 0
    assert float(last["loss_late"]) > 0
    assert None not in last  # no value beyond the columns


def test_a_condition_that_no_window_has_is_refused() -> None:
    with pytest.raises(UserError, match="late: a predicate matches no point"):
        windows_of(Door(until=2))


class Ending(Heat):
    def conditions(self) -> Any:
        return (Boundary(lambda u: u, at={"t": 1.0}),)


class Cyclic(Heat):
    def conditions(self) -> Any:
        return (Boundary(lambda u: u), Periodic("t"))


@pytest.mark.parametrize("problem", [Ending(), Cyclic()])
def test_what_ties_the_end_of_time_is_refused_in_windows(problem: Residual) -> None:
    assert "belong to all windows" in str(PINN(windows=2).refuses(problem))
    assert PINN().refuses(problem) is None


class Beginning(Heat):
    def conditions(self) -> Any:
        initial, boundary = super().conditions()
        assert isinstance(initial, Initial)
        return (Boundary(initial.equation, at={"t": 0.0}, name="initial"), boundary)


@pytest.mark.parametrize("impose", [False, True])
def test_a_face_at_the_start_is_an_initial_condition_in_windows(impose: bool) -> None:
    given = {"windows": 2, "steps": 4, "impose": impose}
    states = [train(problem=problem, **given).state for problem in (Heat(), Beginning())]
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("problem", [Heat(), Wave()])
def test_a_batch_knows_the_window_before(problem: Residual) -> None:
    module = windows_of(problem)
    module.begin(1)
    batch = module.sample(torch.Generator().manual_seed(0))
    group = module.groups[0]
    points = group.points(batch)
    found = module.interpreter(points, group.orders)(points.coordinates, group.terms[0].relation.needs)
    whole = module.interpreter(points, group.orders, module.network)(points.coordinates, group.terms[0].relation.needs)
    assert any(name.endswith(BEFORE) for name in batch)
    assert all(torch.allclose(found[need], whole[need], rtol=1e-12, atol=1e-10) for need in whole)


@pytest.mark.parametrize("method", ["lm", "ssbroyden"])
@pytest.mark.parametrize("impose", [False, True])
def test_strict_causality_waits_until_all_times_count(method: str, impose: bool) -> None:
    given: dict[str, Any] = {"method": method, "causality": 100.0, "impose": impose, "width": 10, "points": 200}
    given |= {"target_loss": 1e-5} if method == "lm" else {"target_loss": 1e-5, "adam_steps": 20}
    solution = train(steps=500, resample_every=50, **given)
    assert solution.notes["stop_reason"] == "target_loss"
    assert float(solution.notes["least_causal_weight"]) > SETTLED
    assert Heat().score(solution)["relative_l2"] < 3e-2
    short = train(steps=2, **given)
    assert short.notes["stop_reason"] == "schedule"
    assert float(short.notes["least_causal_weight"]) < SETTLED


def test_weights_that_underflow_leave_all_points_likely() -> None:
    module = PINN(width=4, depth=1, causality=1e6, impose=False).fresh(Heat(), 0, torch.float64)
    assert isinstance(module, PINN)
    generator = torch.Generator().manual_seed(0)
    batch = module.sample(generator)
    module.adapt(batch, None)
    assert not module.settled
    assert not module.residuals(batch)["equation"].any()
    assert len(module.resample(generator, batch)["equation/coordinates"]) == len(batch["equation/coordinates"])


def test_no_time_for_a_step_leaves_no_findings() -> None:
    notes = train(problem=InverseDiffusion(), method="lm", max_seconds=1e-9).notes
    assert (notes["stop_reason"], notes["steps"]) == ("max_seconds", 0)
    assert "diffusivity" not in notes


def test_balance_needs_steps_of_first_order_and_ntk_each_row() -> None:
    assert "balance=relobralo" in str(PINN(method="lm", balance="relobralo").refuses(Heat()))
    assert "balance=relobralo" in str(PINN(method="ssbroyden", adam_steps=0, balance="relobralo").refuses(Heat()))
    assert PINN(method="ssbroyden", adam_steps=5, balance="relobralo").refuses(Heat()) is None
    factored = {"network": "piratenet", "factored": True, "method": "adam"}
    assert "factored weights" in str(PINN(**factored, balance="ntk").refuses(Heat()))
    assert PINN(**factored, balance="gradient_norm").refuses(Heat()) is None


@pytest.mark.parametrize("balance", ["gradient_norm", "ntk"])
def test_two_processes_balance_as_one(balance: Balance) -> None:
    given = {"method": "adam", "steps": 3, "impose": False, "balance": balance, "causality": 0.1}
    one, two = (train(devices=devices, **given).state for devices in (1, 2))
    for name in ("terms", "times"):
        np.testing.assert_allclose(two[f"weightings.0.{name}"], one[f"weightings.0.{name}"], rtol=1e-9)


def test_soap_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(UserError, match=r"\[optimizers\]"):
        train(method="soap")
