"""Scenarios and operation: outages, growth, series in time, failing generators, reactive limits, shared slack."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandapower
import pandapower.networks
import pytest
from pandapower import pandapowerNet

import sciml
from problems.grid.grid import Grid
from sciml.errors import UserError
from sciml.grid.cases import CASES, from_pandapower, open_case
from sciml.grid.failures import failing, without_generators
from sciml.grid.operation import Operation, by_newton, operate
from sciml.grid.powergrid import PowerGrid
from sciml.grid.scenarios import Spread, draw, states
from sciml.grid.topology import coupled, split_bus
from solvers.grid.leapnet import LeapNet
from solvers.grid.newton import Newton
from solvers.grid.newton_batch import NewtonBatch

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
STILL = Spread(load=0.0, common=0.0, generation=0.0, voltage=0.0)


def solved(name: str, change: Callable[[pandapowerNet], None], **options: bool) -> tuple[pandapowerNet, np.ndarray]:
    """Return a published case solved by pandapower after a change, and its voltages, angles from the slack's."""
    net = getattr(pandapower.networks, CASES[name])()
    change(net)
    pandapower.runpp(net, calculate_voltage_angles=True, init="dc", tolerance_mva=1e-9, trafo_model="t", **options)
    v = (net.res_bus.vm_pu * np.exp(1j * np.deg2rad(net.res_bus.va_degree))).to_numpy()
    at = v[net.bus.index.get_loc(net.ext_grid.bus.iloc[0])]
    order = np.argsort(net._pd2ppc_lookups["bus"][net.bus.index])
    return net, (v * np.exp(-1j * np.angle(at)))[order]


def unchanged(net: pandapowerNet) -> None:
    pass


@pytest.mark.parametrize(("name", "freed"), [("ieee14", 0), ("ieee30", 5), ("ieee118", 6), ("pegase1354", 25)])
def test_reactive_limits_free_the_voltages_that_pandapower_frees(name: str, freed: int) -> None:
    grid = open_case(name)
    found = operate(grid, grid.nominal[None], limits=True)
    _, expected = solved(name, unchanged, enforce_q_lims=True)
    assert found.settled.all()
    assert (~found.held).sum() == freed
    assert np.abs(found.voltages[0] - expected).max() < 1e-9
    least, most = (grid.at_regulated(v) for v in (grid.generators.least, grid.generators.most))
    assert (found.reactive[0, 1:] <= most[1:] + 1e-5).all()
    assert (found.reactive[0, 1:] >= least[1:] - 1e-5).all()


def test_a_slack_shared_equally_agrees_with_pandapower() -> None:
    def share(net: pandapowerNet) -> None:
        net.ext_grid["slack_weight"] = 1.0
        net.gen["slack_weight"] = 1.0
        net.gen["slack"] = True

    net, expected = solved("ieee57", share, distributed_slack=True)
    grid = open_case("ieee57")
    equal = np.full(len(grid.regulated), 1 / len(grid.regulated))
    found = operate(grid, grid.nominal[None], shares=equal)
    assert found.settled.all()
    assert np.abs(found.voltages[0] - expected).max() < 1e-9
    assert np.abs(found.generation[0, 1:] - net.res_gen.p_mw).max() < 1e-5
    assert np.ptp(found.generation[0] - np.r_[0, grid.generation]) < 1e-5
    with pytest.raises(UserError, match="7 shares sum to 2; expected 7, of sum one"):
        operate(grid, grid.nominal[None], shares=2 * equal)


def test_failed_generators_agree_with_pandapower() -> None:
    grid = open_case("ieee118")
    for row in (0, 17, 40):

        def fail(net: pandapowerNet, row: int = row) -> None:
            net.gen.loc[row, "in_service"] = False

        net, expected = solved("ieee118", fail)
        place = net._pd2ppc_lookups["bus"][net.gen.bus[row]]
        out = (grid.generators.bus == place)[None]
        inputs, held = without_generators(grid, grid.nominal[None], out)
        found = operate(grid, inputs, held=held)
        assert (~held).sum() == 1
        assert np.abs(found.voltages[0] - expected).max() < 1e-9


def test_a_bus_with_a_generator_left_holds_its_voltage() -> None:
    net = pandapower.networks.case14()
    pandapower.create_gen(net, net.gen.bus[0], p_mw=60.0, vm_pu=net.gen.vm_pu[0])
    grid = from_pandapower(net)
    twice = np.flatnonzero(grid.generators.bus == net.gen.bus[0])
    out = np.zeros((3, len(grid.generators.bus)), bool)
    out[0, twice[0]] = out[1, twice[1]] = True
    out[2, twice] = True
    inputs, held = without_generators(grid, np.tile(grid.nominal, (3, 1)), out)
    assert held.all(axis=1).tolist() == [True, True, False]
    power = grid.split(inputs)[2][:, 0]
    assert np.allclose(np.sort(power), [0, 40, 60])
    slack = grid.generators.bus == grid.slack
    with pytest.raises(UserError, match="every generator at the slack, bus 1, is out; keep one"):
        without_generators(grid, grid.nominal[None], slack[None])


def test_a_scenario_without_load_flow_leaves_the_others_alone() -> None:
    grid = open_case("ieee30")
    inputs = np.tile(grid.nominal, (3, 1))
    inputs[1, : len(grid.loads)] *= 50
    inputs[2, -len(grid.source) :] = 0  # every bus an island
    found = operate(grid, inputs, limits=True)
    assert found.settled.tolist() == [True, False, False]
    assert np.isnan(found.voltages[1:]).all()
    alone = operate(grid, inputs[:1], limits=True)
    np.testing.assert_allclose(found.voltages[:1], alone.voltages, atol=1e-12)


def test_numbers_missing_from_a_scenario_leave_the_others_alone() -> None:
    grid = open_case("ieee14")
    inputs = np.tile(grid.nominal, (4, 1))
    inputs[1, 0] = inputs[2, -1] = np.nan
    found = by_newton(grid)(inputs)
    assert np.isfinite(found).all(axis=1).tolist() == [True, False, False, True]
    np.testing.assert_allclose(found[[0, 3]], np.tile(by_newton(grid)(inputs[:1]), (2, 1)), atol=1e-13)


@pytest.mark.parametrize("out", [0, 1, 2, 4])
def test_scenarios_have_as_many_branches_out_as_asked(out: int) -> None:
    grid = open_case("ieee57")
    drawn = draw(grid, STILL, (out,), 60, [1])
    status = drawn.inputs[:, -len(grid.source) :]
    assert ((status == 0).sum(1) == out).all()
    assert not grid.islanded(status).any()
    assert np.allclose(drawn.inputs[:, : -len(grid.source)], grid.nominal[: -len(grid.source)])


def test_a_radial_grid_says_that_it_bears_no_outage() -> None:
    radial = Grid.of(pandapower.networks.create_cigre_network_mv(), test=5)
    with pytest.raises(UserError, match="nearly every outage of 1 branches cuts a bus off; ask for fewer"):
        radial.drawn  # noqa: B018 - drawn here
    alone = Grid.of(pandapower.networks.create_cigre_network_mv(), test=5, train_outages=(0,), test_outages=(0,))
    assert len(alone.reference.inputs) == 5


def test_loads_keep_their_mean_grow_and_persist() -> None:
    grid = open_case("ieee30")
    for spread, mean, correlation in (
        (Spread(0.2, 0.0, 0.0, 0.0), 1.0, 0.0),
        (Spread(0.2, 0.0, 0.0, 0.0, growth=0.15), 1.15, 0.0),
        (Spread(0.2, 0.0, 0.0, 0.0, persistence=0.9), 1.0, 0.9),
    ):
        inputs = states(grid, spread, 0, 4000, np.random.default_rng(0))
        ratio = inputs[:, : len(grid.loads)] / np.real(grid.load)
        assert abs(ratio.mean() - mean) < 0.01
        logs = np.log(ratio)
        assert abs(logs.std(0).mean() - 0.2) < 0.005
        centred = logs - logs.mean(0)
        found = (centred[1:] * centred[:-1]).mean() / (centred**2).mean()
        assert abs(found - correlation) < 0.02


def test_a_common_factor_moves_loads_and_generation_together() -> None:
    grid = open_case("ieee30")
    inputs = states(grid, Spread(0.0, 0.1, 0.0, 0.0), 0, 50, np.random.default_rng(0))
    ratio = inputs[:, : len(grid.loads)] / np.real(grid.load)
    assert np.ptp(ratio, axis=1).max() < 1e-12
    assert 0.05 < ratio[:, 0].std() < 0.15


def test_branches_withheld_from_training_are_scored_apart() -> None:
    problem = Grid(train=400, test=60, withheld=0.25)
    out = problem.scenarios("train")[:, problem.structure] == 0
    assert len(problem.unseen) == 5
    assert not out[:, problem.unseen].any()
    scores = problem.score(problem.trivial())
    assert {f"flow_error{s}" for s in ("_n1", "_n1_unseen", "_n2", "_shifted")} <= set(scores)
    assert scores["flow_error_n1_unseen"] != scores["flow_error_n1"]
    loads = problem.shifted.inputs[:, :11].sum(1).mean() / problem.reference.inputs[:, :11].sum(1).mean()
    assert 1.03 < loads < 1.2


def test_other_lines_follow_from_the_seed() -> None:
    def grid(seed: int, spread: float) -> PowerGrid:
        return Grid(line_spread=spread, seed=seed).flow.grid

    ratio = grid(0, 0.1).impedance.imag / open_case("ieee14").impedance.imag
    assert 0.05 < np.log(ratio).std() < 0.15
    assert (grid(0, 0.1).impedance == grid(0, 0.1).impedance).all()
    assert not (grid(0, 0.1).impedance == grid(1, 0.1).impedance).any()
    assert np.isfinite(by_newton(grid(0, 0.1))(open_case("ieee14").nominal[None])).all()


def test_a_split_bus_agrees_with_pandapower() -> None:
    def uncouple(net: pandapowerNet) -> None:
        new = pandapower.create_bus(net, net.bus.vn_kv[3])
        net.line.loc[3, "to_bus"] = new
        net.line.loc[6, "from_bus"] = new
        net.load.loc[net.load.bus == 3, "bus"] = new

    grid = open_case("ieee14")
    ends = grid.branches[3], grid.branches[6]
    assert ends == ("2_4", "4_5")
    split = split_bus(grid, "4", ends, load=True)
    assert split.numbers[-1] == 15
    _, expected = solved("ieee14", uncouple)
    assert np.abs(by_newton(split)(split.nominal[None])[0] - expected).max() < 1e-10
    with pytest.raises(UserError, match="the first bus 4, are cut off from the slack"):
        split_bus(grid, "4", [b for b in grid.branches if "4" in b.split("_")])
    with pytest.raises(UserError, match="no branch"):
        split_bus(grid, "4", ["4_55"])
    with pytest.raises(UserError, match="branch 1_2 does not end at bus 4"):
        split_bus(grid, "4", ["1_2"])
    with pytest.raises(UserError, match="are the slack's"):
        split_bus(grid, "1", ["1_2"], generators=True)


def test_a_coupler_that_is_out_leaves_the_grid_of_a_split_bus() -> None:
    grid = open_case("ieee118")
    joined = coupled(grid, "49")
    place = grid.bus("49")
    moved = np.flatnonzero((grid.source == place) | (grid.target == place))[1::2]
    split = split_bus(grid, "49", [grid.branches[k] for k in moved])
    out = joined.nominal.copy()
    assert joined.branches[-1] == "49_119"
    out[-1] = 0
    np.testing.assert_allclose(by_newton(joined)(out[None]), by_newton(split)(split.nominal[None]), atol=1e-12)
    closed, whole = (by_newton(g)(g.nominal[None])[0] for g in (joined, grid))
    assert 1e-7 < np.abs(closed[:-1] - whole).max() < 1e-3
    with pytest.raises(UserError, match="bus 117 has a single branch, which no coupler can part"):
        coupled(grid, "117")


def test_generators_fail_as_often_as_asked() -> None:
    grid = open_case("ieee118")
    inputs = failing(grid, np.tile(grid.nominal, (900, 1)), 2, np.random.default_rng(0))
    setpoint = grid.split(inputs)[3]
    failed = (setpoint == 0).sum(1)
    assert np.bincount(failed).tolist() == pytest.approx([300, 300, 300], abs=60)
    assert (setpoint[:, 0] > 0).all()
    assert (grid.split(inputs)[2][setpoint[:, 1:] == 0] == 0).all()
    with pytest.raises(UserError, match="generators may be out, 99 are asked for"):
        failing(grid, inputs, 99, np.random.default_rng(0))


def test_lost_generators_and_open_couplers_are_changes_of_structure_for_a_leap_net() -> None:
    problem = Grid(train=1000, test=20, generators_out=2, couplers=(4,))
    grid, points = problem.flow.grid, problem.scenarios("train")
    x, tau = problem.divided(points)
    _, _, _, setpoint, status = grid.split(points)
    assert tau.shape == (1000, 21 + 4)
    np.testing.assert_array_equal(tau[:, :21], 1 - status)
    np.testing.assert_array_equal(tau[:, 21:], setpoint[:, 1:] == 0)
    assert tau.any(axis=0)[[20, 21, 22, 23, 24]].all()
    held = np.where(setpoint == 0, grid.setpoint, setpoint)
    np.testing.assert_array_equal(x, np.hstack([points[:, : x.shape[1] - 5], held]))
    assert problem.divided(grid.nominal[None])[1].sum() == 0
    scores = problem.score(sciml.solve(problem, LeapNet(steps=800, hidden=64, latent=64, rows=64, learning_rate=3e-3)))
    assert scores["flow_error"] < 0.5 * problem.score(problem.trivial())["flow_error"]


def test_what_operation_asks_for_is_missed_by_its_neglect_alone() -> None:
    grid = open_case("ieee57")
    inputs = np.tile(grid.nominal, (4, 1))
    inputs[:, : len(grid.loads)] *= np.array([0.9, 1.0, 1.1, 1.15])[:, None]
    inputs = failing(grid, inputs, 1, np.random.default_rng(3))
    assert (grid.split(inputs)[3] == 0).any()
    plain = Operation().run(grid, inputs).voltages
    for operation in (Operation(limits=True), Operation(slack="equal"), Operation(True, "capacity")):
        found = operation.run(grid, inputs)
        assert found.settled.all()
        assert np.abs(operation.lack(grid, inputs, found.voltages)).max() < 1e-8
        assert np.abs(operation.lack(grid, inputs, plain)).max() > 1e-2
    assert np.abs(Operation().lack(grid, inputs, plain)).max() < 1e-9


def test_shares_by_capacity_leave_failed_generators_out() -> None:
    grid = open_case("ieee57")
    inputs = np.tile(grid.nominal, (2, 1))
    inputs[1, -len(grid.source) - len(grid.setpoint) + 2] = 0
    found = Operation(slack="capacity").run(grid, inputs)
    capacity = grid.at_regulated(grid.generators.highest)
    assert np.isinf(capacity[0])
    capacity[0] = capacity[1:].max()
    scheduled = np.r_[grid.at_regulated(grid.generators.power)[0], grid.generation]
    first = found.generation[0] - scheduled
    np.testing.assert_allclose(first / first.sum(), capacity / capacity.sum(), atol=1e-6)
    assert abs(found.generation[1, 2] - scheduled[2]) < 1e-9


@pytest.mark.parametrize(
    "settings",
    [{"generators_out": 2}, {"reactive_limits": True}, {"slack": "equal", "generators_out": 1}, {"couplers": (4, 5)}],
    ids=str,
)
def test_solvers_keep_what_a_problem_says_of_operation(settings: dict[str, Any]) -> None:
    problem = Grid(train=10, test=8, **settings)
    for solver in (Newton(), NewtonBatch()):
        scores = problem.score(sciml.solve(problem, solver))
        assert scores["flow_error"] < 1e-6
        assert scores["mismatch_max"] < 1e-6


def test_an_error_of_angles_counts_on_lines_and_not_on_couplers() -> None:
    problem = Grid(train=10, test=8, couplers=(4,), test_outages=(0,))
    known = problem.reference
    off = known.outputs.copy()
    off[:, -1] += 0.01  # degrees, at the second busbar: 175 MW over the coupler
    scores = problem._scores(known.inputs, off, known.outputs, "")
    moved = problem.branch_flows(known.inputs, off) - problem.branch_flows(known.inputs, known.outputs)
    assert np.abs(moved[:, -1]).min() > 100
    assert scores["flow_error"] < 0.01
