"""Levenberg-Marquardt and the Jacobian that it steps by."""

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import sciml
from problems.pde.burgers import Burgers
from problems.pde.heat import Heat
from problems.pde.inverse_diffusion import InverseDiffusion
from sciml.errors import SolveError, UserError
from sciml.pde.conditions import Initial, Periodic
from sciml.pde.domains import Box
from sciml.pde.tape import per_row, recording
from sciml.solver import Context
from sciml.training.gauss_newton import LevenbergMarquardt
from sciml.training.natural_gradient import NaturalGradient
from sciml.training.settings import Training
from sciml.views.residual import Residual
from solvers.pde._drawing import FINE, OUTLYING, influence, spread, toward_edges
from solvers.pde._interval import intervals
from solvers.pde.dgm import DGM
from solvers.pde.pinn import PINN


class Turning(Residual):
    """A wave turns around a ring, which nothing but points at both ends says where it is not built in."""

    def domain(self):
        return Box(x=(0, 1), t=(0, 1))

    def equations(self, u):
        return u.t + u.x * u

    def conditions(self):
        return (Initial(lambda u, x: u - torch.sin(2 * torch.pi * x)), Periodic("x"))

    def reference(self, points):
        return points[:, :1] * 0


def trained(module: nn.Module) -> list[Tensor]:
    return [p for p in module.parameters() if p.requires_grad]


def row_by_row(residuals: Tensor, parameters: list[Tensor]) -> Tensor:
    """Return the Jacobian by one reverse pass for each residual."""
    rows = []
    for residual in residuals:
        found = torch.autograd.grad(residual, parameters, retain_graph=True, allow_unused=True)
        full = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        rows.append(torch.cat([g.reshape(-1) for g in full]))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("problem", "solver"),
    [
        (Burgers(), PINN(width=5, depth=2)),
        (Burgers(), PINN(width=5, depth=2, impose=False, activation="sin")),
        (InverseDiffusion(measurements=7), PINN(width=4, depth=2)),
        (Turning(), PINN(width=4, depth=1)),
        (Heat(), DGM(width=4, depth=2)),
    ],
)
def test_the_tape_tells_the_gradients_of_rows_apart(problem: Residual, solver: Any):
    module = solver.fresh(problem, 0, torch.float64)
    module.points, module.condition_points = 9, 5
    batch, parameters = module.sample(torch.Generator().manual_seed(0)), trained(module)
    with recording(parameters) as tape:
        found = {name: tape.jacobian(rows) for name, rows in module.residuals(batch).items()}
    for name, rows in module.residuals(batch).items():
        torch.testing.assert_close(found[name], row_by_row(rows, parameters), rtol=1e-10, atol=1e-12)


def test_partners_of_points_share_their_row():
    module = PINN(width=4, depth=1, impose=False).fresh(Turning(), 0, torch.float64)
    (group,) = [g for g in module.groups if g.terms[0].condition and g.name.startswith("initial")]
    start = module.sample(torch.Generator().manual_seed(0))[f"{group.name}/coordinates"]
    pairs = torch.cat([start, start + torch.tensor([[0.3, 0.0]])])
    parameters = trained(module)

    def difference() -> Tensor:
        from sciml.pde import taylor

        values = taylor.derivatives(module.network, pairs, [(0, 0)])[0, :, 0]
        return values[: len(start)] - values[len(start) :]

    with recording(parameters) as tape:
        found = tape.jacobian(difference())
    torch.testing.assert_close(found, row_by_row(difference(), parameters))


def test_a_parameter_in_a_product_is_told_apart():
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 1, dtype=torch.float64)
            self.gate = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.linear(x)) * self.gate + self.gate

    from sciml.pde import taylor

    module, points = Gated(), torch.rand(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    parameters = trained(module)
    with recording(parameters) as tape:
        rows = taylor.derivatives(module, points, [(2, 0)])[0, :, 0] * per_row(module.gate, 6)
        found = tape.jacobian(rows)
    expected = row_by_row(taylor.derivatives(module, points, [(2, 0)])[0, :, 0] * module.gate, parameters)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "difference",
    [lambda x, p: x - p, lambda x, p: p - x, torch.sub, lambda x, p: torch.sub(p, x), lambda x, p: x.sub(p)],
    ids=["x - p", "p - x", "sub(x, p)", "sub(p, x)", "x.sub(p)"],
)
def test_a_parameter_in_a_difference_is_told_apart(difference: Any):
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 1, dtype=torch.float64)
            self.shift = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(difference(self.linear(x), self.shift))

    assert_told_apart(Shifted())


@pytest.mark.parametrize("held", ["weight", "bias"])
def test_a_layer_of_which_half_is_frozen_is_told_apart(held: str):
    module = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    for layer in (module[0], module[2]):
        getattr(layer, held).requires_grad_(False)
    assert_told_apart(module)


def assert_told_apart(module: nn.Module) -> None:
    from sciml.pde import taylor

    points, parameters = torch.rand(6, 2, generator=torch.Generator().manual_seed(0)).double(), trained(module)
    with recording(parameters) as tape:
        found = tape.jacobian(taylor.derivatives(module, points, [(2, 0)])[0, :, 0])
    expected = row_by_row(taylor.derivatives(module, points, [(2, 0)])[0, :, 0], parameters)
    torch.testing.assert_close(found, expected)


def test_functions_of_parameters_are_refused():
    weight = nn.Parameter(torch.ones(1, 2))

    class Derived(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, weight.exp())

    from sciml.pde import taylor

    with recording([weight]), pytest.raises(UserError, match="enter as they are"):
        taylor.derivatives(Derived(), torch.ones(3, 2), [(1, 0)])


def linear(matrix: Tensor, data: Tensor, x: Tensor):
    """Return the residuals of a linear least-squares problem as the optimiser asks for them."""
    return lambda derivative: (matrix @ x.detach() - data, matrix if derivative else None)


def test_the_natural_gradient_meets_a_kernel_that_is_singular_to_rounding():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(40, 3, generator=generator) @ torch.randn(3, 60, generator=generator)
    data = matrix @ torch.randn(60, generator=generator)
    x = nn.Parameter(torch.zeros(60))
    optimizer = NaturalGradient([x], momentum=0.0, norm=1e6)
    for _ in range(8):
        assert optimizer.advance(linear(matrix, data, x))
    assert (matrix @ x.detach() - data).norm() < 1e-3 * data.norm()


@pytest.mark.parametrize("entry", [0.0, math.inf, 1e30])
def test_a_kernel_that_is_zero_or_not_finite_is_an_error(entry: float):
    x = nn.Parameter(torch.zeros(2))
    with pytest.raises(SolveError, match="zero or not finite"):
        NaturalGradient([x]).advance(linear(torch.full((3, 2), entry), torch.ones(3), x))


def test_momentum_follows_the_parameters_when_a_state_is_loaded():
    saved, loaded = (nn.Parameter(torch.zeros(2, dtype=dtype)) for dtype in (torch.float64, torch.float32))
    before, after = NaturalGradient([saved]), NaturalGradient([loaded])
    before.advance(linear(torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64), saved))
    after.load_state_dict(before.state_dict())
    assert after.state[loaded]["momentum"].dtype == torch.float32


@pytest.mark.parametrize("rows", [4, 12])
def test_a_step_is_the_damped_one_in_either_form(rows: int):
    generator = torch.Generator().manual_seed(rows)
    matrix = torch.randn(rows, 7, dtype=torch.float64, generator=generator)
    data = torch.randn(rows, dtype=torch.float64, generator=generator)
    x = nn.Parameter(torch.zeros(7, dtype=torch.float64))
    assert LevenbergMarquardt([x], damping=0.5, chords=0).advance(linear(matrix, data, x))
    normal = matrix.T @ matrix
    expected = torch.linalg.solve(normal + 0.5 * torch.diag(normal.diagonal()), matrix.T @ data)
    torch.testing.assert_close(x.detach(), expected)


def test_rosenbrock_is_minimised_to_rounding():
    x = nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64))

    def residuals(derivative: bool) -> tuple[Tensor, Tensor | None]:
        a, b = x.detach()
        slope = torch.stack([torch.stack([-20 * a, torch.full_like(a, 10.0)]), torch.tensor([-1.0, 0.0]).to(x)])
        return torch.stack([10 * (b - a**2), 1 - a]), slope if derivative else None

    optimiser = LevenbergMarquardt([x])
    steps = 0
    while steps < 60 and optimiser.advance(residuals):
        steps += 1
    torch.testing.assert_close(x.detach(), torch.ones(2, dtype=torch.float64), rtol=1e-12, atol=0)


def test_no_step_is_taken_at_a_minimum():
    x = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    still = LevenbergMarquardt([x]).advance(lambda _: (torch.ones(3).double(), torch.zeros(3, 2).double()))
    assert not still
    assert x.detach().tolist() == [0, 0]


def test_heat_is_solved_to_a_millionth_in_few_steps():
    solution = sciml.solve(Heat(), PINN(width=12, depth=3, points=300, steps=60))
    assert solution.problem.score(solution)["relative_l2"] < 1e-6
    assert solution.notes["stop_reason"] == "schedule"


def test_a_diffusivity_is_found_along_with_the_temperatures():
    problem = InverseDiffusion()
    solution = sciml.solve(problem, PINN(width=12, depth=2, points=300, steps=60))
    assert problem.score(solution)[problem.primary] < 1e-5


def test_points_grow_where_the_network_learnt_them_instead_of_the_equations():
    module = PINN(width=10, depth=3, points=40).fresh(Burgers(), 0, torch.float64)
    generator = torch.Generator().manual_seed(0)
    batch = module.sample(generator)
    optimiser, parameters = LevenbergMarquardt(trained(module)), trained(module)

    def residuals(derivative: bool) -> tuple[Tensor, Tensor | None]:
        with recording(parameters) as tape:
            rows = module.residuals(batch)
            jacobian = torch.cat([tape.jacobian(r) for r in rows.values()]) if derivative else None
        return torch.cat([r.detach() for r in rows.values()]), jacobian

    (group,) = [g for g in module.groups if g.terms[0].condition is None]
    at = f"{group.name}/coordinates"
    assert len(module.resample(generator, batch)[at]) == 40
    for _ in range(15):
        optimiser.advance(residuals)
    grown = module.resample(generator, batch)[at]
    assert len(grown) == 80
    assert problem_contains(module, grown)


def problem_contains(module: Any, points: Tensor) -> bool:
    return bool(Burgers().region.contains(points.numpy()).all()) and math.isfinite(float(points.sum()))


def test_half_of_the_new_coordinates_follow_the_arcsine_law_where_an_axis_ends():
    generator, box = torch.Generator().manual_seed(0), Box(x=(-1, 3), t=(0, 2))
    low, high = torch.as_tensor(box.bounds).T
    uniform = low + (high - low) * torch.rand(20_000, 2, dtype=torch.float64, generator=generator)
    moved = toward_edges(uniform, box, ("x",), generator)
    assert torch.equal(moved[:, 0], uniform[:, 0])
    law = stats.kstest(moved[:, 1] / 2, lambda s: (s + stats.arcsine.cdf(s)) / 2)
    assert law.pvalue > 0.01


def test_drawn_rows_follow_the_weights_and_leave_no_cell_without_its_share():
    generator = torch.Generator().manual_seed(0)
    pool = torch.rand(4096, 2, dtype=torch.float64, generator=generator)
    weights = 1 + 3 * (pool[:, 0] > 0.5).double()
    rows = spread(pool, weights, 1024, generator)
    assert len(rows) == 1024
    right = pool[rows, 0] > 0.5
    assert right.double().mean() == pytest.approx(float(weights[pool[:, 0] > 0.5].sum() / weights.sum()), abs=0.005)
    cells = (pool * 8).long() @ torch.tensor([8, 1])
    share = torch.zeros(64, dtype=torch.float64).index_add(0, cells, weights) / weights.sum() * 1024
    counts = torch.bincount(cells[rows], minlength=64)
    assert (counts - share).square().mean() < 0.5 * share.mean()  # independent draws: once the mean


def test_outliers_are_held_back_once_residuals_are_small():
    relative = torch.tensor([0.0, 1.0, OUTLYING, 100.0])
    small, large = (influence(relative, torch.tensor(fall)) for fall in (FINE / 2, 2 * FINE))
    torch.testing.assert_close(relative * small, relative.clamp(max=OUTLYING))
    assert large.tolist() == [1, 1, 1, 1]


def test_held_back_points_count_less_in_the_loss():
    module = PINN(width=4, depth=1, points=20).fresh(Burgers(), 0, torch.float64)
    assert isinstance(module, PINN)
    batch = module.sample(torch.Generator().manual_seed(0))
    (group,) = module.groups
    whole = module.residuals(batch)["equation"]
    half = module.residuals({**batch, group.weight: torch.full((20,), 0.5, dtype=torch.float64)})["equation"]
    torch.testing.assert_close(half, whole / 2)


def test_a_training_stopped_and_resumed_ends_in_the_same_bits(tmp_path):
    def train(folder, resume=False, **stops):
        solver = PINN(width=6, depth=2, points=50, resample_every=4, steps=14)
        context = Context(3, Training(accelerator="cpu", checkpoint_every=3, **stops), folder, resume)
        return solver.solve(Burgers(), context).state

    whole = train(tmp_path / "whole")
    train(tmp_path / "halved", max_steps=6)
    resumed = train(tmp_path / "halved", resume=True)
    assert whole.keys() == resumed.keys()
    for name, values in whole.items():
        assert (values == resumed[name]).all(), name


def test_the_interval_of_a_line_fitted_through_noise_is_that_of_linear_regression():
    rng = torch.Generator().manual_seed(0)
    x = torch.linspace(0, 1, 30, dtype=torch.float64)
    design = torch.stack([x, torch.ones_like(x)], dim=1)
    data = 2 * x + 1 + 0.1 * torch.randn(30, dtype=torch.float64, generator=rng)
    best = torch.linalg.lstsq(design, data[:, None]).solution[:, 0]
    slope, level = (nn.Parameter(b.clone()) for b in best)
    residual = data - design @ best
    found, _ = intervals([slope, level], {"observed": (residual, -design)}, {"slope": slope, "level": level}, 30)
    expected = stats.linregress(x.numpy(), data.numpy())
    half = stats.t.ppf(0.975, 28) * expected.stderr
    assert found["slope_high"] - found["slope"] == pytest.approx(half, rel=1e-8)
    assert found["slope"] == pytest.approx(expected.slope, rel=1e-10)


def test_the_interval_of_a_network_is_the_same_in_single_precision():
    problem = InverseDiffusion(noise=0.01)
    double, single = (PINN(width=10, depth=2, points=300).fresh(problem, 0, t) for t in (torch.float64, torch.float32))
    single.load_state_dict(double.state_dict())
    batch = double.sample(torch.Generator().manual_seed(0))
    found = [double.findings(batch), single.findings({name: rows.float() for name, rows in batch.items()})]
    halves = [f["diffusivity_high"] - f["diffusivity"] for f in found]
    assert halves[1] == pytest.approx(halves[0], rel=0.1)


@pytest.mark.slow
def test_intervals_of_a_network_cover_the_truth_as_often_as_they_say():
    solver = PINN(width=10, depth=2, points=300, steps=60)
    covered = 0
    for draw in range(1, 21):
        notes = sciml.solve(InverseDiffusion(noise=0.01, draw=draw), solver).notes
        covered += float(notes["diffusivity_low"]) <= 0.1 <= float(notes["diffusivity_high"])
    assert covered >= 17
