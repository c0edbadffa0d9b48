"""The batched load flow: lanes against the solver of single scenarios, flags, certificates and convergence."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import sciml
from problems.grid.grid import Grid
from sciml.errors import UserError
from sciml.grid.balance import newton
from sciml.grid.cases import published
from sciml.grid.newton_batch import NewtonBatch
from sciml.grid.powerflow import PowerFlow
from sciml.grid.powergrid import PowerGrid
from solvers.grid.dc import DC
from solvers.grid.dc_newton1 import DCNewton1
from solvers.grid.newton import Newton
from solvers.grid.newton_batch import NewtonBatch as Solver


@pytest.fixture(scope="module")
def grid() -> PowerGrid:
    return published("ieee14")


@pytest.fixture(scope="module")
def batch(grid: PowerGrid) -> NewtonBatch:
    return NewtonBatch(grid, tolerance=1e-11)


def scenarios(grid: PowerGrid, n: int, outages: int = 0, seed: int = 0) -> np.ndarray:
    """Return scenarios with loads, set-points and generation moved and branches out, shape (n, inputs)."""
    rng = np.random.default_rng(seed)
    inputs = np.tile(grid.nominal, (n, 1))
    p, q, generation, setpoint, status = grid.split(inputs)
    for section in (p, q, generation):
        section *= np.exp(0.1 * rng.standard_normal(section.shape))
    setpoint += 0.01 * rng.standard_normal(setpoint.shape)
    for row in status:
        row[rng.choice(len(row), outages, replace=False)] = 0
    return np.concatenate([p, q, generation, setpoint, status], axis=1)


def expected(grid: PowerGrid, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the voltages by the solver with pivoting and which of them converged."""
    found = newton(PowerFlow(grid), torch.from_numpy(inputs), tolerance=1e-11)
    angle, magnitude = np.moveaxis(found.state.numpy(), -1, 0)
    return magnitude * np.exp(1j * angle), found.converged.numpy()


@pytest.mark.parametrize("outages", [0, 1, 2])
def test_voltages_are_those_of_the_single_solver(grid: PowerGrid, batch: NewtonBatch, outages: int) -> None:
    inputs = scenarios(grid, 101, outages)
    found = batch.solve(inputs)
    voltages, converged = expected(grid, inputs)
    assert np.array_equal(found.converged, converged)
    assert converged.sum() > 60
    assert np.abs(found.voltages - voltages)[converged].max() < 1e-10
    assert np.array_equal(found.islanded, grid.islanded(grid.split(inputs)[-1]))
    assert np.isnan(found.voltages[found.islanded]).all()


@pytest.mark.parametrize("name", ["ieee30", "ieee57", "ieee118", "ieee300", "pegase1354"])
def test_larger_grids_balance(name: str) -> None:
    grid = published(name)
    inputs = np.tile(grid.nominal, (9, 1))
    inputs[np.arange(8), -len(grid.source) + len(grid.source) // 8 * np.arange(8)] = 0
    found = NewtonBatch(grid, tolerance=1e-9).solve(inputs)
    voltages, converged = expected(grid, inputs)
    assert found.converged[converged].all()
    assert found.converged.sum() >= 4
    assert np.abs(grid.mismatch(inputs, found.voltages))[found.converged].max() < 2e-9
    assert np.abs(found.voltages - voltages)[converged].max() < 1e-7


def test_islands_hopeless_loads_and_nan_leave_the_neighbours_unharmed(grid: PowerGrid, batch: NewtonBatch) -> None:
    inputs = scenarios(grid, 24)
    alone = batch.solve(inputs)
    harmed = inputs.copy()
    harmed[3, grid.branch("7_8") - len(grid.source)] = 0  # cuts bus 8 off
    harmed[10, : 2 * len(grid.loads)] *= 10
    harmed[17, 0] = np.nan
    found = batch.solve(harmed)
    others = np.setdiff1d(np.arange(24), [3, 10, 17])
    assert found.islanded.nonzero()[0].tolist() == [3]
    assert np.setdiff1d(np.arange(24), found.converged.nonzero()[0]).tolist() == [3, 10, 17]
    assert np.abs(found.voltages - alone.voltages)[others].max() < 1e-12
    assert found.mismatch[others].max() < 1e-11


def test_certificate_is_the_mismatch_of_the_grid_model(grid: PowerGrid, batch: NewtonBatch) -> None:
    inputs = scenarios(grid, 21, outages=1, seed=1)
    rng = np.random.default_rng(2)
    voltages = batch.solve(inputs).voltages
    voltages *= np.exp(1e-3j * rng.standard_normal(voltages.shape))
    voltages[:, grid.slack] = np.abs(voltages[:, grid.slack])
    lack = grid.mismatch(inputs, voltages)
    greatest = np.maximum(np.abs(np.real(lack)), np.abs(np.imag(lack))).max(axis=1)
    assert np.nanmin(greatest) > 1e-4
    assert np.allclose(batch.certified(inputs, voltages), greatest, rtol=1e-9, equal_nan=True)


@pytest.mark.parametrize("change", [1.001, np.exp(0.001j)])
def test_certificate_sees_set_points_and_the_slack_angle(grid: PowerGrid, batch: NewtonBatch, change: complex) -> None:
    inputs = scenarios(grid, 3)
    voltages = batch.solve(inputs).voltages
    voltages[1] *= change
    assert batch.certified(inputs, voltages)[1] > 0.9e-3
    assert batch.certified(inputs, voltages)[[0, 2]].max() < 1e-11


def test_convergence_is_quadratic(grid: PowerGrid) -> None:
    inputs = scenarios(grid, 8)
    start = np.ones((1, len(grid.numbers)), complex)
    errors = []
    exact = NewtonBatch(grid, tolerance=1e-12).solve(inputs).voltages
    for tolerance in (0.3, 3e-2, 3e-4, 1e-8):
        found = NewtonBatch(grid, tolerance).solve(inputs, start)
        errors.append((found.iterations.max(), np.abs(found.voltages - exact).max()))
    steps, sizes = zip(*errors, strict=True)
    assert steps == tuple(sorted(steps))
    assert max(steps) <= 4
    assert sizes[-1] < 1e-9
    for before, after in pairwise(sizes):
        assert after < max(10 * before**2, 1e-12)


def test_threads_and_order_do_not_change_the_answer(grid: PowerGrid, batch: NewtonBatch) -> None:
    inputs = scenarios(grid, 77, outages=1)
    together = batch.solve(inputs)
    spread = NewtonBatch(grid, tolerance=1e-11, threads=3).solve(inputs)
    turned = batch.solve(inputs[::-1])
    assert np.array_equal(spread.voltages, together.voltages, equal_nan=True)
    assert np.allclose(turned.voltages[::-1], together.voltages, rtol=0, atol=1e-12, equal_nan=True)


def test_a_start_at_the_solution_needs_no_step(grid: PowerGrid, batch: NewtonBatch) -> None:
    inputs = scenarios(grid, 10)
    found = batch.solve(inputs)
    assert found.iterations.min() >= 2
    assert batch.solve(inputs, found.voltages).iterations.max() <= 1


def test_other_widths_are_refused(batch: NewtonBatch) -> None:
    with pytest.raises(UserError, match="expected"):
        batch.solve(np.zeros((3, 5)))


def test_solvers_answer_the_problem() -> None:
    problem = Grid(train=20, test=20)
    errors = {s.name: problem.score(sciml.solve(problem, s))["flow_error"] for s in (Solver(1e-11), DCNewton1(), DC())}
    assert errors["newton_batch"] < 1e-9
    assert errors["dc_newton1"] < 0.5 * errors["dc"]
    points = problem.scenarios("train")
    ours, theirs = sciml.solve(problem, Solver(1e-11))(points), sciml.solve(problem, Newton())(points)
    assert np.abs(ours - theirs).max() < 1e-8
