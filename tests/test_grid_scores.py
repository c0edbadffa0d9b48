"""Scores of load flows: relative errors of large values as LIPS counts them, and its checks of physics."""

from dataclasses import replace

import numpy as np
import pytest

import sciml
from problems.grid._scores import LEARNING, PHYSICS, lips_points, mape, physics
from problems.grid.grid import Grid
from sciml.grid.cases import open_case
from sciml.grid.newton_batch import NewtonBatch, voltages
from sciml.grid.powergrid import PowerGrid
from solvers.grid.dc import DC

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def problem() -> Grid:
    return Grid(train=20, test=30)


@pytest.fixture(scope="module")
def known(problem: Grid) -> dict[str, np.ndarray]:
    """Return status, magnitudes, flows and currents of the reference."""
    grid, found = problem.flow.grid, problem.reference
    status, v = found.inputs[:, problem.structure], voltages(found.outputs)
    p, current = np.real(grid.flows(v, status)), grid.currents(v, status)
    return {"status": status, "vm": np.abs(v), "p": p, "current": current, "true_p": p}


def test_mape_counts_the_largest_values_of_each_quantity() -> None:
    truth = np.column_stack([np.arange(1.0, 21.0), -100 * np.arange(1.0, 21.0), np.full(20, 0.05)])
    values = truth.copy()
    values[-2:, 0] *= 1.1  # the largest tenth of the first
    values[:2, 1] *= 3.0  # the smallest tenth of the second
    values[:, 2] = 7.0  # too small to count
    assert mape(values, truth, 0.1) == pytest.approx((0.1 + 0.0) / 2)
    assert mape(values, truth, 0.9) == pytest.approx((0.1 * 2 / 18 + 0.0) / 2)
    values[2, 1] *= 2.0
    assert mape(values, truth, 0.9) == pytest.approx((0.1 * 2 / 18 + 1 / 18) / 2)
    assert mape(truth[:1], truth[:1], 0.1) == 0
    assert np.isnan(mape(truth[:, 2:], truth[:, 2:], 0.1))


def test_mape_agrees_with_percentiles() -> None:
    rng = np.random.default_rng(0)
    truth = 10 + rng.standard_normal((200, 3, 4))
    values = truth + 0.1 * rng.standard_normal(truth.shape)
    large = truth > np.quantile(truth, 0.9, axis=0, keepdims=True)
    relative = np.where(large, np.abs(values / truth - 1), np.nan)
    assert mape(values, truth, 0.1) == pytest.approx(np.nanmean(relative, axis=0).mean())


def test_the_reference_keeps_every_law(problem: Grid, known: dict[str, np.ndarray]) -> None:
    found = physics(problem.flow.grid, **known)
    for name in ("negative_current", "negative_voltage", "negative_loss", "nonzero_off"):
        assert found[name] == 0, name
    assert found["global_balance"] < 1e-12
    assert found["local_balance"] < 1e-12
    assert found["joule"] < 0.01


def test_joule_holds_exactly_without_charging() -> None:
    grid = open_case("ieee118")
    series = replace(grid, charging=np.zeros(len(grid.source)), conductance=np.zeros(len(grid.source)))

    def joule(one: PowerGrid) -> float:
        v, status = NewtonBatch(one, 1e-11).solve(one.nominal[None]).voltages, one.in_service[None].astype(float)
        p = np.real(one.flows(v, status))
        return physics(one, status, np.abs(v), p, one.currents(v, status), p)["joule"]

    assert joule(series) < 1e-10
    assert 1e-4 < joule(grid) < 0.1


def test_each_broken_law_is_found_by_its_own_check(problem: Grid, known: dict[str, np.ndarray]) -> None:
    grid = problem.flow.grid
    whole = physics(grid, **known)
    off = np.broadcast_to(known["status"][:, None] == 0, known["p"].shape)
    assert off.any()
    broken = {
        "negative_current": {"current": np.where(np.arange(20) == 3, -1.0, known["current"])},
        "negative_voltage": {"vm": np.where(np.arange(14) == 3, -known["vm"], known["vm"])},
        "nonzero_off": {"p": np.where(off, 1e-3, known["p"])},
    }
    share = {"negative_current": 1 / 20, "negative_voltage": 1 / 14, "nonzero_off": 1 / 2}
    for name, changed in broken.items():
        assert physics(grid, **(known | changed))[name] == pytest.approx(share[name])
    lossless = known["p"].copy()
    lossless[:, 1] = -lossless[:, 0] - 1.0
    found = physics(grid, **(known | {"p": lossless}))
    assert found["negative_loss"] == 1
    assert found["global_balance"] > 1
    lost = known["p"].copy()
    lost[:, 0, 0] += 1000.0
    found = physics(grid, **(known | {"p": lost}))
    assert (whole["excessive_loss"] < 1, found["excessive_loss"]) == (True, 1)
    assert found["local_balance"] > 1
    assert found["joule"] > 0.5


def test_a_common_error_of_currents_is_their_mape(problem: Grid) -> None:
    exact, grid = problem.reference, problem.flow.grid
    scores = problem.score(sciml.solve(problem, DC()))
    v = voltages(sciml.solve(problem, DC())(exact.inputs))
    status = exact.inputs[:, problem.structure]
    current, truth = (grid.currents(each, status) for each in (v, voltages(exact.outputs)))
    assert scores["current_error_a"] == pytest.approx(np.abs(current - truth).mean())
    assert 0.02 < scores["current_mape90"] < 0.3
    assert scores["vm_error"] == pytest.approx(np.sqrt(((1 - np.abs(voltages(exact.outputs))) ** 2).mean()))
    assert scores["global_balance"] > 0.05  # the flows of DC voltages lose less
    assert {f"current_mape90{s}" for s in ("_n0", "_n1", "_n2", "_shifted")} <= set(scores)


def test_points_are_lost_where_a_score_is_merely_acceptable_or_worse() -> None:
    great = {name: 0.99 * first for name, (first, _) in (LEARNING | PHYSICS).items()}
    assert lips_points(great) == pytest.approx(1)
    assert lips_points(great | {"flow_mape10": 0.03}) == pytest.approx(1 - 0.66 / 6)
    assert lips_points(great | {"flow_mape10": 0.06}) == pytest.approx(1 - 0.66 / 3)
    assert lips_points(great | {"joule": 0.2, "local_balance": 0.07}) == pytest.approx(1 - 0.34 * 3 / 16)


def test_voltages_count_in_kilovolts_at_the_ends_of_closed_branches(problem: Grid) -> None:
    exact = problem.reference
    scores = problem._scores(exact.inputs, exact.outputs, exact.outputs, "")
    assert all(scores[name] < first for name, (first, _) in LEARNING.items())
    off = exact.outputs.copy()
    off[:, :14] += 0.01
    moved = problem._scores(exact.inputs, off, exact.outputs, "")
    ends = np.r_[problem.flow.grid.source, problem.flow.grid.target]
    live = np.tile(exact.inputs[:, problem.structure] != 0, 2)
    expected = 0.01 * (live * problem.flow.grid.kilovolts[ends]).mean()
    assert moved["vm_error_kv"] == pytest.approx(expected)
