"""The leaps of leapnet_physics: exact for the linearised load flow, whatever is open."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

import sciml
from problems.grid.grid import Grid
from sciml.errors import UserError
from sciml.grid.balance import Pattern
from sciml.grid.powerflow import PowerFlow
from solvers.grid._linearised import Linearised
from solvers.grid.leapnet_physics import LeapNetPhysics

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@cache
def problem(case: str) -> Grid:
    return Grid(case=case, train=60, test=20)


@cache
def linearised(case: str) -> Linearised:
    return Linearised(problem(case).flow, torch.float64)


def nominal(flow: PowerFlow, out: tuple[int, ...]) -> Tensor:
    """Return the nominal scenario with branches out, shape (1, inputs)."""
    scenario = flow.grid.nominal.copy()
    scenario[len(scenario) - len(flow.grid.source) + np.array(out, int)] = 0
    return torch.from_numpy(scenario[None])


def dense(pattern: Pattern, values: Tensor) -> np.ndarray:
    matrix = np.zeros((pattern.size, pattern.size))
    matrix[pattern.rows, pattern.columns] = values
    return matrix


def directly(flow: PowerFlow, linear: Linearised, out: tuple[int, ...]) -> np.ndarray:
    """Return x after one Newton step from the nominal load flow with branches open, by their own Jacobian."""
    given = flow.read(nominal(flow, out))
    state = linear.state.reshape(1, 2, -1).mT
    pattern, values = flow.jacobian(state, given)
    moved = state.clone()
    lack = flow.imbalance(state, given)[:, flow.unknown]
    moved[:, flow.unknown] -= torch.from_numpy(np.linalg.solve(dense(pattern, values[0]), lack[0].numpy()))
    return moved[0].T.ravel().numpy()


@pytest.mark.parametrize("case", ["ieee14", "ieee30", "ieee118"])
@pytest.mark.parametrize("out", [(), (3,), (3, 9), (0, 9, 17)])
def test_one_untrained_leap_is_the_first_order_response_to_outages(case: str, out: tuple[int, ...]) -> None:
    flow, linear = problem(case).flow, linearised(case)
    module = LeapNetPhysics(leaps=1).fresh(problem(case), 0, torch.float64)
    assert isinstance(module, LeapNetPhysics)
    with torch.no_grad():
        x = module.iterate(nominal(flow, out))[0][0].numpy()
    assert np.abs(x - linear.state.numpy()).max() > 1e-3 or not out
    np.testing.assert_allclose(x, directly(flow, linear, out), rtol=0, atol=1e-10)


def test_outages_interact_and_do_not_add_up() -> None:
    flow, linear = problem("ieee14").flow, linearised("ieee14")
    one, other, both = (directly(flow, linear, out) - linear.state.numpy() for out in ((3,), (4,), (3, 4)))
    assert np.abs(one + other - both).max() > 0.1 * np.abs(both).max()


@pytest.mark.parametrize("case", ["ieee14", "ieee118"])
def test_the_leap_solves_with_branches_open(case: str) -> None:
    """(J - Σ U Wᵀ) d = r, rows with one, two and no branch open side by side."""
    flow, linear = problem(case).flow, linearised(case)
    outs = [(3,), (3, 9), ()]
    scenarios = torch.cat([nominal(flow, out) for out in outs])
    _, _, gone = linear.read(scenarios)
    out = linear.outages(gone)
    assert out.branch.shape == (3, 2)
    right = torch.randn(3, len(linear.free), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    h = torch.zeros(3, len(linear.state), dtype=torch.float64)
    h[:, linear.free] = right @ linear.inverse.T
    found = linear.leap(h, out)
    given = flow.read(scenarios)
    pattern, values = flow.jacobian(linear.state.reshape(1, 2, -1).mT.expand(3, -1, -1), given)
    order = flow.unknown.flatten().nonzero().squeeze(1)  # by bus, where ours goes by component
    rank = torch.argsort(torch.argsort(order % 2 * len(flow.unknown) + order // 2))
    for row in range(3):
        d, r = found[row, linear.free][rank].numpy(), right[row, rank].numpy()
        np.testing.assert_allclose(-dense(pattern, values[row]) @ d, r, rtol=0, atol=1e-8)


@pytest.mark.parametrize("case", ["ieee14", "ieee118"])
def test_the_lack_is_the_imbalance(case: str) -> None:
    asked, linear = problem(case), linearised(case)
    scenarios = torch.from_numpy(asked.scenarios("test"))
    injected, x, gone = linear.read(scenarios)
    x = x + 0.05 * torch.sin(torch.arange(x.numel(), dtype=torch.float64)).reshape(x.shape)
    lack = linear.lack(x, injected, linear.outages(gone)).T
    state = x.reshape(len(x), 2, -1).mT
    expected = asked.flow.imbalance(state, asked.flow.read(scenarios))
    by_component = expected.mT.flatten(1)[:, linear.free]
    np.testing.assert_allclose(lack, by_component, rtol=0, atol=1e-11)


@pytest.mark.parametrize("case", ["ieee14", "ieee57", "ieee118"])
def test_scenarios_that_are_cut_off_and_no_others_come_back_as_nan(case: str) -> None:
    grid = problem(case).flow.grid
    rng, branches = np.random.default_rng(0), len(grid.source)
    status = np.ones((branches + 2000, branches))
    status[range(branches), range(branches)] = 0
    pairs = rng.permuted(np.tile(np.arange(branches), (2000, 1)), axis=1)[:, :2]
    np.put_along_axis(status[branches:], pairs, 0, axis=1)
    scenarios = np.tile(grid.nominal, (len(status), 1))
    scenarios[:, -branches:] = status
    module = LeapNetPhysics().fresh(problem(case), 0, torch.float32)
    answer = module.function()(scenarios)
    lost = np.isnan(answer).any(axis=1)
    islanded = grid.islanded(status)
    assert 10 < islanded.sum() < len(status) / 2
    assert (lost == islanded).all()
    assert np.isnan(answer[lost]).all()


def test_closing_a_branch_out_of_service_is_exact_too() -> None:
    open_one = Grid(case="ieee118")
    object.__setattr__(open_one.flow.grid, "in_service", np.arange(len(open_one.flow.grid.source)) != 9)
    linear = Linearised(open_one.flow, torch.float64)
    closed = torch.from_numpy(open_one.flow.grid.nominal[None].copy())
    closed[:, -len(open_one.flow.grid.source) + 9] = 1
    injected, x, gone = linear.read(closed)
    out = linear.outages(gone)
    assert gone.sum() == -1
    for _ in range(12):
        h = torch.zeros_like(x).index_copy(1, linear.free, linear.lack(x, injected, out).T @ linear.inverse.T)
        x = x + linear.leap(h, out)
    np.testing.assert_allclose(x[0], linearised("ieee118").state, rtol=0, atol=1e-9)


def test_training_lowers_the_error_without_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Grid(case="ieee14", train=400, test=100)
    known = asked.reference
    monkeypatch.setattr(Grid, "pairs", lambda self: pytest.fail("labels were asked for"))
    trained = sciml.solve(asked, LeapNetPhysics(steps=300))
    untrained = LeapNetPhysics().fresh(asked, 0, torch.float32).function()
    flows = asked.branch_flows(known.inputs, known.outputs)
    errors = [np.abs(asked.branch_flows(known.inputs, f(known.inputs)) - flows).mean() for f in (untrained, trained)]
    assert errors[1] < 0.8 * errors[0]


def test_a_grid_too_large_for_dense_matrices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solvers.grid.leapnet_physics._MOST", 20)
    with pytest.raises(UserError, match="refuses grid: the inverse of its Jacobian would have 22² entries"):
        sciml.solve(problem("ieee14"), LeapNetPhysics())


def test_failed_generators_are_refused_whose_buses_it_would_hold_at_zero() -> None:
    with pytest.raises(UserError, match="refuses grid: its answer keeps more than the balance that is linearised"):
        sciml.solve(Grid(generators_out=1), LeapNetPhysics())
