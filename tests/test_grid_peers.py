"""The fast decoupled load flow, and peers on the scenarios of a problem."""

import sys

import numpy as np
import pandapower.networks
import pytest

import sciml
from problems.grid.grid import Grid
from sciml.errors import UserError
from sciml.grid.cases import open_case
from sciml.grid.fast_decoupled import fast_decoupled
from sciml.grid.newton_batch import NewtonBatch
from sciml.grid.powerflow import PowerFlow
from sciml.solver import misfit
from solvers.grid._on_admittances import OnAdmittances
from solvers.grid._on_load_flow import OnLoadFlow
from solvers.grid.lightsim2grid import LightSim2Grid
from solvers.grid.newton import Newton
from solvers.grid.pandapower import PandaPower
from solvers.grid.power_grid_model import PowerGridModel

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.mark.parametrize("case", ["ieee14", "ieee57", "ieee118", "ieee300"])
def test_the_fast_decoupled_load_flow_is_that_of_newton(case: str) -> None:
    grid = open_case(case)
    inputs = np.tile(grid.nominal, (5, 1))
    inputs[:, : 2 * len(grid.loads)] *= np.array([0.99, 0.995, 1.0, 1.0, 1.005])[:, None]
    inputs[3, -len(grid.source) + 2] = 0
    expected = NewtonBatch(grid, 1e-11).solve(inputs)
    assert expected.converged.all()
    found = fast_decoupled(grid, inputs, 1e-10, 60)
    assert np.abs(found - expected.voltages).max() < 1e-8


def test_half_steps_converge_linearly() -> None:
    grid = open_case("ieee118")
    exact = NewtonBatch(grid, 1e-11).solve(grid.nominal[None]).voltages
    errors = [np.abs(fast_decoupled(grid, grid.nominal[None], 1e-12, k) - exact).max() for k in range(2, 12)]
    rates = np.divide(errors[1:], errors[:-1])
    assert (rates < 0.7).all()
    assert errors[-1] < 1e-5
    assert errors[-1] > 1e-14


def test_what_does_not_converge_leaves_the_others_alone() -> None:
    grid = open_case("ieee30")
    inputs = np.tile(grid.nominal, (4, 1))
    inputs[1, : len(grid.loads)] *= 50
    inputs[2, -len(grid.source) :] = 0  # every bus an island
    found = fast_decoupled(grid, inputs)
    assert np.isnan(found[2]).all()
    np.testing.assert_allclose(found[[0, 3]], np.tile(fast_decoupled(grid, inputs[:1]), (2, 1)), atol=1e-12)
    residual = np.abs(grid.mismatch(inputs, found)).max(axis=1)
    assert residual[0] < 1e-8
    assert not residual[1] < 1e-8


@pytest.mark.parametrize("peer", [LightSim2Grid(1e-11), PandaPower(1e-11)], ids=lambda p: p.name)
@pytest.mark.parametrize("settings", [{"case": "ieee14"}, {"case": "ieee118"}, {"generators_out": 1}], ids=str)
def test_peers_agree_with_the_reference(peer: OnAdmittances, settings: dict) -> None:
    pytest.importorskip(peer.name)
    problem = Grid(train=10, test=4, **settings)
    answer = sciml.solve(problem, peer)
    assert np.abs(answer(problem.reference.inputs) - problem.reference.outputs).max() < 1e-6
    points = problem.reference.inputs[:2].copy()
    points[0, -len(problem.intact) :] = 0
    found = answer(points)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()
    points[1, : len(problem.flow.grid.loads)] *= 100
    assert np.isnan(answer(points)).all()


def test_power_grid_model_agrees_where_no_bus_but_the_slack_is_regulated() -> None:
    pytest.importorskip("power_grid_model")
    settings = {"train": 10, "test": 6, "train_outages": (0,), "test_outages": (0,)}
    net = pandapower.networks.create_cigre_network_mv()
    pandapower.create_shunt(net, net.bus.index[5], q_mvar=-0.5, p_mw=0.1)
    problem = Grid.of(net, **settings)
    answer = sciml.solve(problem, PowerGridModel(1e-11))
    assert np.abs(answer(problem.reference.inputs) - problem.reference.outputs).max() < 1e-8
    points = problem.reference.inputs[:3].copy()
    points[0, -1] = 0  # cuts a bus off
    points[1, : len(problem.flow.grid.loads)] *= 1000
    found = answer(points)
    assert np.isnan(found[:2]).all()
    assert np.abs(found[2] - sciml.solve(problem, Newton())(points)[2]).max() < 1e-8
    assert misfit(Grid(), PowerGridModel()) == (
        "power_grid_model refuses grid: it holds no voltage but the slack's; the grid has 5 regulated buses"
    )


@pytest.mark.parametrize(
    ("module", "package", "peer"),
    [
        ("lightsim2grid.lightsim2grid_cpp", "lightsim2grid", LightSim2Grid()),
        ("pandapower.pypower.newtonpf", "pandapower", PandaPower()),
        ("power_grid_model", "power-grid-model", PowerGridModel()),
    ],
)
def test_a_missing_peer_is_named(module: str, package: str, peer: OnLoadFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"this peer needs {package}, .*pip install -e '\.\[peers\]'"):
        peer.answer(PowerFlow(open_case("ieee14")))
