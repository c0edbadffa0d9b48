"""AC load flow: the law written once, Newton-Raphson, and the solvers that learn it."""

import sys
from itertools import pairwise

import numpy as np
import pandapower
import pytest
import torch
from pandapower.networks import case14

import sciml
from problems.grid.grid import Grid
from problems.pde.heat import Heat
from sciml.errors import UserError
from sciml.grid.balance import Pattern, newton, solve_blocks
from sciml.grid.sensitivity import operating_point
from sciml.solver import misfit
from solvers.grid._on_pairs import OnPairs
from solvers.grid.dc import DC
from solvers.grid.dss import DSS
from solvers.grid.gns import GNS
from solvers.grid.leapnet import Leap, LeapNet
from solvers.grid.mlp import MLP
from solvers.grid.newton import Newton

OUTAGES = [(), (0,), (9,), (15,), (2, 13), (7, 17), (0, 19)]


@pytest.fixture(scope="module")
def problem() -> Grid:
    return Grid(train=600, test=30)


def cut(problem: Grid, branches: tuple[int, ...]) -> np.ndarray:
    """Return the nominal scenario, shape (1, inputs), with branches out."""
    scenario = problem.flow.grid.nominal.copy()
    scenario[np.flatnonzero(problem.structure)[list(branches)]] = 0
    return scenario[None]


@pytest.mark.parametrize("branches", OUTAGES)
def test_newton_agrees_with_pandapower(problem: Grid, branches: tuple[int, ...]) -> None:
    net = case14()
    for k in branches:
        table, row = (net.line, k) if k < len(net.line) else (net.trafo, k - len(net.line))
        table.loc[row, "in_service"] = False
    pandapower.runpp(net, calculate_voltage_angles=True, init="flat", tolerance_mva=1e-10)
    scenario = cut(problem, branches)
    vm, va = np.split(sciml.solve(problem, Newton())(scenario)[0], 2)
    assert np.abs(vm - net.res_bus.vm_pu).max() < 1e-8
    assert np.abs(np.deg2rad(va - net.res_bus.va_degree)).max() < 1e-8
    flows = problem.branch_flows(scenario, np.concatenate([vm, va])[None])[0]
    expected = np.r_[net.res_line.p_from_mw, net.res_trafo.p_hv_mw]
    assert np.abs(flows - expected).max() < 1e-6


def test_newton_agrees_with_pandapower_away_from_the_nominal_state(problem: Grid) -> None:
    scenario = problem.scenarios("train")[-1:]
    values = dict(zip((v.name for v in problem.inputs), scenario[0], strict=True))
    net = case14()
    for row, bus in net.load.bus.items():
        net.load.loc[row, ["p_mw", "q_mvar"]] = values[f"p_load_bus{bus + 1}"], values[f"q_load_bus{bus + 1}"]
    for row, bus in net.gen.bus.items():
        net.gen.loc[row, ["p_mw", "vm_pu"]] = values[f"p_gen_bus{bus + 1}"], values[f"vm_set_bus{bus + 1}"]
    net.ext_grid.loc[0, "vm_pu"] = values["vm_set_bus1"]
    (out,) = np.flatnonzero(scenario[0, problem.structure] == 0)
    table, row = (net.line, out) if out < len(net.line) else (net.trafo, out - len(net.line))
    table.loc[row, "in_service"] = False
    pandapower.runpp(net, calculate_voltage_angles=True, init="flat", tolerance_mva=1e-10)
    vm, va = np.split(sciml.solve(problem, Newton())(scenario)[0], 2)
    assert np.abs(vm - net.res_bus.vm_pu).max() < 1e-8
    assert np.abs(np.deg2rad(va - net.res_bus.va_degree)).max() < 1e-8


def test_newton_converges_quadratically(problem: Grid) -> None:
    scenarios = torch.from_numpy(problem.scenarios("test"))
    exact = newton(problem.flow, scenarios, tolerance=1e-13).state
    errors = [(newton(problem.flow, scenarios, 1e-16, k).state - exact).abs().amax((1, 2)) for k in range(5)]
    for before, after in pairwise(errors):
        far = (before < 0.1) & (before > 1e-6)
        assert (after[far] < 10 * before[far] ** 2).all()
    rates = [torch.log(c / b) / torch.log(b / a) for a, b, c in zip(errors, errors[1:], errors[2:], strict=False)]
    inside = [r[(b < 0.05) & (c > 1e-11)] for r, b, c in zip(rates, errors[1:], errors[2:], strict=False)]
    observed = torch.cat(inside)
    assert len(observed) > 30
    assert 1.8 < observed.median() < 2.3


def test_losses_are_positive_and_the_powers_add_up(problem: Grid) -> None:
    known, flow = problem.reference, problem.flow
    given = flow.read(torch.from_numpy(known.inputs))
    vm, va = torch.from_numpy(known.outputs).chunk(2, dim=1)
    state = torch.stack([va.deg2rad(), vm], dim=-1)
    p, q = flow.flows(state, given)
    assert (p.sum(1) > 0).all()
    half = p.shape[1] // 2
    assert (p[:, :half] + p[:, half:] > -1e-12).all()
    injected = torch.zeros(len(p), 14, dtype=p.dtype).index_add(1, flow.edges[0], p)
    slack = injected[:, 0] - given["p"][:, 0]
    assert torch.allclose(slack + given["p"].sum(1), p.sum(1), atol=1e-9)
    assert torch.allclose(q[given["status"] == 0], torch.zeros(1, dtype=q.dtype))


def test_imbalances_of_active_power_add_up_to_zero(problem: Grid) -> None:
    flow = problem.flow
    given = flow.read(torch.from_numpy(problem.scenarios("test")))
    noise = 0.1 * torch.randn(len(given["p"]), 14, 2, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    state = flow.start(given) + noise
    assert flow.imbalance(state, given)[..., 0].sum(1).abs().max() < 1e-12
    # with the slack's own injection set by loads and losses, the law at its bus says the same
    p, _ = flow.flows(state, given)
    slack = -given["p"][:, 1:].sum(1) + p.sum(1)
    at_slack = slack - p[:, flow.edges[0] == 0].sum(1)
    assert torch.allclose(at_slack, flow.imbalance(state, given)[:, 0, 0], atol=1e-12)


def test_the_balance_agrees_with_the_complex_admittance_matrix(problem: Grid) -> None:
    grid, flow = problem.flow.grid, problem.flow
    y = np.diag(grid.shunt).astype(complex)
    for i, j, z, b, t in zip(grid.source, grid.target, grid.impedance, grid.charging, grid.tap, strict=True):
        y[np.ix_([i, j], [i, j])] += [
            [(1 / z + 0.5j * b) / abs(t) ** 2, -1 / z / np.conj(t)],
            [-1 / z / t, 1 / z + 0.5j * b],
        ]
    rng = np.random.default_rng(0)
    va, vm = 0.2 * rng.standard_normal(14), 1 + 0.1 * rng.standard_normal(14)
    v = vm * np.exp(1j * va)
    given = flow.read(torch.from_numpy(grid.nominal[None]))
    state = torch.from_numpy(np.stack([va, vm], axis=-1)[None])
    lack = given["p"][0].numpy() + 1j * given["q"][0].numpy() - v * np.conj(y @ v)
    expected = np.stack([lack.real, lack.imag], axis=-1)[flow.unknown.numpy()]
    assert np.abs(flow.imbalance(state, given)[0, flow.unknown].numpy() - expected).max() < 1e-13


def test_the_jacobian_is_the_derivative_of_the_balance(problem: Grid) -> None:
    flow = problem.flow
    given = flow.read(torch.from_numpy(problem.scenarios("test")[-3:]))
    generator = torch.Generator().manual_seed(0)
    state = flow.start(given) + 0.1 * torch.randn(3, 14, 2, generator=generator, dtype=torch.double)
    pattern, values = flow.jacobian(state, given)
    for row in range(3):
        one = {name: value[row : row + 1] for name, value in given.items()}
        whole = torch.autograd.functional.jacobian(lambda s, one=one: flow.imbalance(s[None], one)[0], state[row])
        exact = whole[flow.unknown][:, flow.unknown]
        built = torch.zeros_like(exact)
        built[pattern.rows, pattern.columns] = values[row]
        assert (built - exact).abs().max() < 1e-12


def test_the_balance_passes_gradcheck(problem: Grid) -> None:
    given = problem.flow.read(torch.from_numpy(problem.scenarios("test")[-2:]))
    state = problem.flow.start(given) + 0.05
    assert torch.autograd.gradcheck(lambda s: problem.flow.imbalance(s, given), state.requires_grad_())


def test_a_singular_block_leaves_the_others_alone() -> None:
    pattern = Pattern(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 2)
    values = np.array([[2.0, 0, 0, 4], [1, 1, 1, 1], [1, 0, 1, 1]])
    answer = solve_blocks(pattern, values, np.ones((3, 2)))
    assert np.allclose(answer[[0, 2]], [[0.5, 0.25], [0, 1]])
    assert np.isnan(answer[1]).all()


def test_islands_are_found_and_have_no_answer(problem: Grid) -> None:
    names = problem.flow.grid.branches
    alone = [cut(problem, (k,)) for k in range(len(names))]
    whole = problem.flow.solvable(problem.flow.read(torch.from_numpy(np.concatenate(alone))))
    assert [names[k] for k in range(len(names)) if not whole[k]] == ["7_8"]
    island = cut(problem, (names.index("9_14"), names.index("13_14")))
    both = np.concatenate([island, cut(problem, ())])
    for solver in (Newton(), DC()):
        answer = sciml.solve(problem, solver)(both)
        assert np.isnan(answer[0]).all()
        assert np.isfinite(answer[1]).all()
        assert np.isnan(sciml.solve(problem, solver)(island)).all()


def test_scenarios_with_islands_are_counted_and_set_aside() -> None:
    problem = Grid(train=400, test=400)
    for split, outages in (("train", (0, 1)), ("test", (0, 1, 2))):
        drawn = problem.drawn[split]
        assert problem.flow.solvable(problem.flow.read(torch.from_numpy(drawn.inputs))).all()
        assert ((drawn.inputs[:, problem.structure] == 0).sum(1) == drawn.outages).all()
        assert set(drawn.islanded) == set(outages)
        assert drawn.islanded[0] == 0
    one, two = (problem.drawn["test"].islanded[k] / 800 for k in (1, 2))
    assert 0.02 < one < 0.09  # 1 of 20
    assert one < two < 0.25


def test_scenarios_follow_from_the_seed() -> None:
    first, again, other = Grid(test=5), Grid(test=5), Grid(test=5, seed=1)
    assert (first.scenarios("test") == again.scenarios("test")).all()
    assert not (first.scenarios("test") == other.scenarios("test"))[:, 0].any()
    trained = {row.tobytes() for row in first.scenarios("train")}
    assert not any(row.tobytes() in trained for row in first.scenarios("test"))
    still = Grid(load_spread=0.0, common_spread=0.0, generation_spread=0.0, voltage_spread=0.0, test=3)
    assert np.allclose(still.scenarios("test")[0], still.flow.grid.nominal)


def test_scores_of_the_reference_vanish(problem: Grid) -> None:
    scores = problem.score(sciml.solve(problem, Newton(tolerance=1e-10)))
    assert scores[problem.primary] < 1e-7
    physics = ("excessive_loss", "joule")  # of the grid itself, which loses much
    others = (*physics, "lips_points")
    assert all(value < 1e-5 for name, value in scores.items() if not name.startswith(others))
    assert scores["lips_points"] > 0.9
    for k in (0, 1, 2):
        assert {f"{n}_n{k}" for n in ("flow_error", "vm_error", "va_error", "mismatch_max")} <= set(scores)


def test_the_ladders_descend(problem: Grid) -> None:
    for solver, ratio in ((Newton, 0.5), (DC, 1.0)):
        ((name, values),) = solver.ladder.items()
        errors = [problem.score(sciml.solve(problem, solver(**{name: v})))["flow_error"] for v in values]
        assert len(errors) >= 4
        assert all(b <= ratio * a for a, b in pairwise(errors))


def test_newton_meets_its_tolerance(problem: Grid) -> None:
    for given, met in ((Newton(tolerance=1e-10), True), (Newton(iterations=1), False)):
        assert (problem.score(sciml.solve(problem, given))["mismatch_max"] < 1e-10) == met


def test_dc_beats_the_best_constant(problem: Grid) -> None:
    dc, constant = (problem.score(s)["flow_error"] for s in (sciml.solve(problem, DC()), problem.trivial()))
    assert dc < 0.5 * constant


def test_solvers_restore_from_their_state(problem: Grid) -> None:
    points = problem.scenarios("test")[::7]
    for solver in (Newton(), DC(), GNS(steps=3), LeapNet(steps=3), MLP(steps=3)):
        solution = sciml.solve(problem, solver)
        assert (solver.restore(problem, solution.state)(points) == solution(points)).all()


@pytest.mark.parametrize("solver", [GNS(steps=3), LeapNet(steps=3)])
def test_restoring_makes_no_training_data(solver: GNS | LeapNet, monkeypatch: pytest.MonkeyPatch) -> None:
    points = Grid(test=2).scenarios("test")
    solution = sciml.solve(Grid(train=50, test=2), solver)
    asked: list[str] = []
    monkeypatch.setattr(Grid, "pairs", lambda self: asked.append("pairs"))
    monkeypatch.setattr(Grid, "scenarios", lambda self, split: asked.append(split))
    again = solver.restore(Grid(train=50, test=2), solution.state)
    assert (again(points) == solution(points)).all()
    assert asked == []


@pytest.mark.parametrize("solver", [LeapNet(), MLP()])
def test_networks_on_pairs_standardise_by_the_training_pairs_and_the_measure(
    problem: Grid, solver: LeapNet | MLP
) -> None:
    module = solver.fresh(problem, 0, torch.float64)
    assert isinstance(module, OnPairs)
    drawn = module.labelled(torch.device("cpu"))
    points, outputs = problem.pairs()
    x, tau = problem.divided(points)
    np.testing.assert_allclose(drawn["x"] * module.x_deviation + module.x_mean, x, rtol=1e-12, atol=1e-12)
    assert (drawn["x"].mean(0).abs() < 1e-9).all()
    assert (drawn["tau"].numpy() == tau).all()
    assert (drawn["z"] ** 2).mean() == pytest.approx(1)
    np.testing.assert_allclose(drawn["z"] @ module.basis.T + module.y_mean, outputs, rtol=0, atol=1e-9)
    error = (problem.measure @ (outputs - outputs.mean(0)).T).T
    ratio = (error**2).sum(1) / (drawn["z"] ** 2).sum(1).numpy()
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)


def test_the_measure_is_the_change_of_flows_to_first_order(problem: Grid) -> None:
    grid = problem.flow.grid
    point = operating_point(problem.flow)
    outputs = np.concatenate([point.magnitude, np.degrees(point.angle)])
    move = np.random.default_rng(0).standard_normal(len(outputs))
    move[14 + grid.slack] = 0

    def shares(size: float) -> np.ndarray:
        vm, va = np.split(outputs + size * move, 2)
        voltages = vm * np.exp(1j * np.deg2rad(va))
        return (grid.flows(voltages[None], np.ones((1, 20)))[0].T / grid.base / point.scale).ravel()

    np.testing.assert_allclose(shares(0), (point.flows / point.scale).ravel(), atol=1e-9)
    by_difference = (shares(1e-5) - shares(-1e-5)) / 2e-5
    expected = problem.measure @ move
    np.testing.assert_allclose(np.r_[by_difference.real, by_difference.imag, 0], expected, atol=1e-7)


@pytest.mark.parametrize("method", [GNS, DSS])
def test_statistical_solvers_learn_from_the_law_alone(method: type[GNS | DSS], monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Grid(train=400, test=20)
    known = problem.reference

    def forbidden(*_: object) -> None:
        raise AssertionError("labels were asked for")

    monkeypatch.setattr(Grid, "pairs", forbidden)
    monkeypatch.setattr(Grid, "_solved", forbidden)
    before, after = (sciml.solve(problem, method(corrections=4, steps=steps)) for steps in (1, 200))
    lack = [np.square(problem.mismatch(known.inputs, s(known.inputs))).mean() for s in (before, after)]
    assert lack[1] < 0.2 * lack[0]


@pytest.mark.parametrize("solver", [GNS(steps=2), GNS(steps=2, global_solve=True), DSS(steps=2)])
def test_statistical_solvers_keep_what_is_known(problem: Grid, solver: GNS | DSS) -> None:
    points = problem.scenarios("test")
    given = problem.flow.read(torch.from_numpy(points))
    answer = sciml.solve(problem, solver)(points)
    held = ~problem.flow.unknown[:, 1].numpy()
    assert np.allclose(answer[:, :14][:, held], given["vm"].numpy()[:, held], atol=1e-6)
    assert (answer[:, 14] == 0).all()


def test_leapnet_generalises_better_than_the_best_constant() -> None:
    problem = Grid(train=2000, test=100)
    constant = problem.score(problem.trivial())
    learnt = problem.score(sciml.solve(problem, LeapNet(steps=300)))
    for k in (0, 1, 2):
        assert learnt[f"flow_error_n{k}"] < 0.5 * constant[f"flow_error_n{k}"]


def test_leapnet_leaves_the_intact_structure_to_encoder_and_decoder(problem: Grid) -> None:
    module = LeapNet().fresh(problem, 0, torch.float32)
    assert isinstance(module, LeapNet)
    drawn = module.labelled(torch.device("cpu"))
    x, tau = drawn["x"][:5], torch.zeros_like(drawn["tau"][:5])
    assert torch.equal(module.standardised(x, tau), module.decoder(module.encoder(x)))
    assert torch.equal(drawn["tau"], 1 - torch.from_numpy(problem.pairs()[0][:, problem.structure]).float())


def test_units_of_a_leap_move_along_directions_of_their_own() -> None:
    leap = Leap(latent=3, structure=2, units=2, real=torch.float64)
    torch.nn.init.normal_(leap.encode.weight)
    h, tau = torch.randn(1, 3, dtype=torch.float64), torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    expected = h + leap.encode(h)[:, 2:] @ leap.decode.weight[:, 2:].T
    torch.testing.assert_close(leap(h, tau), expected)


def test_the_table_and_the_figures_show_every_scenario(problem: Grid) -> None:
    solution = sciml.solve(problem, DC())
    table = problem.table(solution)
    for axes, values in table.arrays.values():
        assert values.shape == tuple(len(table.axes[a]) for a in axes)
    assert np.allclose(table.arrays["vm"][1], 1)
    assert [name for name, _ in problem.figures(solution)] == ["flows", "outages", "loading", "network"]


def test_loads_that_no_scenario_can_carry_are_refused() -> None:
    net = case14()
    net.load[["p_mw", "q_mvar"]] *= 40
    with pytest.raises(UserError, match="none of 15 scenarios drawn to test has a load flow; lower loads"):
        Grid.of(net, test=5).prepare()


def test_inputs_and_outputs_are_named_with_units(problem: Grid) -> None:
    units = {v.name: v.unit for v in (*problem.inputs, *problem.outputs)}
    assert units["p_load_bus3"] == "MW"
    assert units["q_load_bus3"] == "Mvar"
    assert units["status_line_4_7"] == "1"
    assert units["va_bus14"] == "degree"
    assert len(units) == len(problem.inputs) + len(problem.outputs)
    assert problem.flow.grid.nominal[[v.name == "p_load_bus3" for v in problem.inputs]] == 94.2


def test_a_missing_pandapower_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandapower.networks", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[grid\]'"):
        Grid().grid()


def test_views_decide_who_fits(problem: Grid) -> None:
    assert [v.__name__ for v in problem.views()] == ["Graph", "Pairs"]
    assert all(misfit(problem, s) is None for s in (Newton(), DC(), GNS(), DSS(), LeapNet()))
    assert misfit(Heat(), GNS()) == "gns needs the view Graph; heat offers Residual"
