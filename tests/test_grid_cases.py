"""Grids from elsewhere agree with pandapower, and bad ones are refused."""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandapower
import pandapower.networks
import pandapower.toolbox
import pytest
import torch
import yaml
from pandapower import pandapowerNet

import sciml
from problems.grid.grid import Grid
from sciml.cli import main
from sciml.configuration.choices import CONFIGS
from sciml.errors import UserError
from sciml.grid.balance import newton
from sciml.grid.cases import CASES, from_pandapower, open_case
from sciml.grid.powerflow import PowerFlow
from sciml.grid.powergrid import PowerGrid

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

OTHERS = ["example_simple", "example_multivoltage", "create_cigre_network_mv", "create_cigre_network_hv"]
"""Nets with switches, three-winding transformers, iron losses, shifts and buses cut off."""


LARGE = ["rte6470", "pegase9241"]


def published(name: str) -> pandapowerNet:
    return getattr(pandapower.networks, CASES.get(name, name))()


def voltages(grid: PowerGrid) -> np.ndarray:
    """Return the nominal load flow, complex, in p.u., shape (1, buses)."""
    found = newton(PowerFlow(grid), torch.from_numpy(grid.nominal[None]), 1e-10, linear=True)
    assert found.converged.all()
    return (found.state[..., 1] * torch.exp(1j * found.state[..., 0])).numpy()


def reference(net: pandapowerNet, grid: PowerGrid) -> tuple[np.ndarray, np.ndarray]:
    """Return pandapower's voltages, angles from the slack's, and the bus of the array model of each."""
    pandapower.runpp(net, calculate_voltage_angles=True, init="dc", tolerance_mva=1e-9, trafo_model="t")
    solved = net.res_bus[np.isfinite(net.res_bus.vm_pu)]
    place = net._pd2ppc_lookups["bus"][solved.index]
    found = (solved.vm_pu * np.exp(1j * np.deg2rad(solved.va_degree))).to_numpy()
    return found * np.exp(-1j * np.angle(found[place == grid.slack][0])), place


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in LARGE else []) for n in (*CASES, *OTHERS)]
)
def test_voltages_flows_and_currents_agree_with_pandapower(name: str) -> None:
    net = published(name)
    grid = from_pandapower(net)
    expected, place = reference(net, grid)
    found = voltages(grid)
    assert np.abs(found[0, place] - expected).max() < 1e-9
    assert np.abs(grid.mismatch(grid.nominal[None], found)).max() < 1e-9
    lines = slice(0, len(net.line))
    status = grid.in_service[None].astype(float)
    if name in CASES:  # elsewhere pandapower's branches are not its lines and transformers in order
        sent, received = grid.flows(found, status)[0]
        assert np.allclose(sent[lines], net.res_line.p_from_mw + 1j * net.res_line.q_from_mvar, atol=1e-5)
        assert np.allclose(received[lines], net.res_line.p_to_mw + 1j * net.res_line.q_to_mvar, atol=1e-5)
        amperes = grid.currents(found, status)[0, :, lines]
        assert np.allclose(amperes, 1e3 * net.res_line[["i_from_ka", "i_to_ka"]].T, atol=1e-4, rtol=1e-7)


def test_a_conversion_leaves_the_net_alone_and_turns_with_the_slack() -> None:
    net = published("ieee14")
    net.ext_grid["va_degree"] = 30.0
    before = copy.deepcopy(net)
    turned = voltages(from_pandapower(net))
    assert pandapower.toolbox.nets_equal(net, before)
    assert np.abs(turned - voltages(from_pandapower(published("ieee14")))).max() < 1e-12


def test_a_line_out_of_service_stays_in_the_grid() -> None:
    net = published("ieee14")
    net.line.loc[3, "in_service"] = False
    grid = from_pandapower(net)
    assert np.flatnonzero(~grid.in_service).tolist() == [3]
    expected, place = reference(net, grid)
    assert np.abs(voltages(grid)[0, place] - expected).max() < 1e-12


def matpower(path: Path, name: str, renumber: Callable[[np.ndarray], np.ndarray]) -> Path:
    """Write a published case as a MATPOWER file under other numbers."""
    from pandapower.converter.pypower.to_ppc import to_ppc

    case = to_ppc(published(name), calculate_voltage_angles=True, init="flat", mode="pf")
    tables = {"bus": case["bus"][:, :13], "gen": case["gen"][:, :21], "branch": np.real(case["branch"])[:, :13]}
    for table, columns in (("bus", [0]), ("gen", [0]), ("branch", [0, 1])):
        tables[table] = tables[table].copy()
        tables[table][:, columns] = renumber(tables[table][:, columns])
    rows = {t: "\n".join("\t" + "\t".join(map(repr, r)) + ";" for r in a.tolist()) for t, a in tables.items()}
    text = f"function mpc = case_test\nmpc.version = '2';\nmpc.baseMVA = {float(case['baseMVA'])};\n"
    text += "".join(f"mpc.{t} = [\n{r}\n];\n" for t, r in rows.items())
    path.write_text(text.replace("nan", "0"))
    return path


@pytest.mark.parametrize("name", ["ieee14", "case39"])
def test_a_matpower_file_gives_the_same_grid(name: str, tmp_path: Path) -> None:
    grid = open_case(str(matpower(tmp_path / "case_test.m", name, lambda n: 5000 - 3 * n)))
    known = from_pandapower(published(name))
    assert grid.numbers.tolist() == [5000 - 3 * n for n in range(len(known.numbers))]
    assert np.abs(voltages(grid) - voltages(known)).max() < 1e-12
    assert np.allclose(grid.generators.most, known.generators.most)


def test_a_matpower_file_is_taken_by_its_numbers(tmp_path: Path) -> None:
    path = matpower(tmp_path / "case_test.m", "ieee14", lambda n: n + 1)
    text = path.read_text()
    for wrong, message in (
        (text.replace("\t8.0\t", "\t88.0\t", 1), "a branch is at bus 8, which is not in the table"),
        (text.replace("\t8.0\t", "\t7.0\t", 1), "has a bus number twice"),
        (text.replace("\t1.0\t3.0\t", "\t1.0\t1.0\t", 1), "the grid has no slack; make one bus of it of type 3"),
        (text.replace("\t1.0\t3.0\t0.0\t", "\t1.0\t3.0\tNaN\t", 1), "the load at bus 1 is"),
    ):
        path.write_text(wrong)
        with pytest.raises(UserError, match=message) as raised:
            open_case(str(path))
        assert "\n" not in str(raised.value)
    path.write_text(text.replace("\t8.0\t2", "\t8.0\t4", 1))  # bus 8 hangs by a single branch
    alone = open_case(str(path))
    assert (len(alone.numbers), alone.left_out) == (13, ("8",))


def test_a_saved_net_gives_the_same_grid(tmp_path: Path) -> None:
    pandapower.to_json(published("ieee30"), str(tmp_path / "net.json"))
    given = Grid(case=str(tmp_path / "net.json")).flow.grid
    assert np.abs(voltages(given) - voltages(Grid.of(published("ieee30")).flow.grid)).max() < 1e-14


def test_a_saved_net_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    pandapower.to_json(published("ieee14"), str(path))
    whole = json.loads(path.read_text())
    whole["_object"]["bus_geodata"] = {"_module": "subprocess", "_class": "Popen", "_object": "touch"}
    path.write_text(json.dumps(whole))
    with pytest.raises(UserError, match=r"subprocess\.Popen"):
        open_case(str(path))
    whole["_object"]["bus_geodata"] = json.dumps(whole["_object"]["bus_geodata"])
    path.write_text(json.dumps(whole).replace("_module", r"\u005fmodule"))
    with pytest.raises(UserError, match=r"subprocess\.Popen"):
        open_case(str(path))


def _set(table: str, column: str, value: float | bool, row: int = 0) -> Callable[[pandapowerNet], None]:
    def change(net: pandapowerNet) -> None:
        net[table].loc[row, column] = value

    return change


def _two_slacks(net: pandapowerNet) -> None:
    pandapower.create_ext_grid(net, 4)


def _no_impedance(net: pandapowerNet) -> None:
    net.line.loc[0, ["r_ohm_per_km", "x_ohm_per_km"]] = 0.0


def _cut(net: pandapowerNet) -> None:
    net.trafo["in_service"] = False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("ext_grid", "in_service", False), "no slack; add one by"),
        (_two_slacks, r"2 slack buses \(1, 5\); keep one, and make generators of the others"),
        (_no_impedance, "branch 1_2 has impedance zero; merge its buses"),
        (_set("load", "p_mw", np.nan, 3), r"net\.load\.p_mw\[3\] is nan; expected a finite number"),
        (_set("gen", "vm_pu", np.nan), r"net\.gen\.vm_pu\[0\] is nan"),
        (_set("line", "r_ohm_per_km", np.nan), "the impedance at branch 1_2 is .*nan"),
        (_cut, "are cut off from the slack; connect or remove them"),
    ],
)
def test_a_grid_that_is_not_sound_is_refused_in_one_line(change: Callable, message: str) -> None:
    net = published("ieee14")
    change(net)
    with pytest.raises(UserError, match=message) as raised:
        from_pandapower(net)
    assert "\n" not in str(raised.value)


def test_a_bus_without_branches_is_left_out_and_reported() -> None:
    net = published("ieee14")
    bus = pandapower.create_bus(net, 110.0)
    asked = Grid.of(net)
    assert len(asked.flow.grid.numbers) == 14
    (complaint,) = asked.complaints()
    assert not complaint.fatal
    assert f"({bus})" in complaint.text


def test_series_capacitors_are_allowed() -> None:
    net = published("ieee14")
    net.line.loc[0, "x_ohm_per_km"] *= -0.2
    grid = from_pandapower(net)
    expected, place = reference(net, grid)
    assert grid.impedance[0].imag < 0
    assert np.abs(voltages(grid)[0, place] - expected).max() < 1e-10


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("ieee1118", "did you mean 'ieee118'"),
        ("nowhere.m", "no file 'nowhere.m'; expected a MATPOWER file"),
        ("broken.m", "holds no MATPOWER case"),
        ("broken.json", "is no JSON text"),
        ("list.json", "holds no net of pandapower"),
    ],
)
def test_an_unknown_or_broken_case_is_named(
    case: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("broken.m", "hello"), ("broken.json", "{"), ("list.json", "[1, 2]")):
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        Grid(case=case).grid()
    assert "\n" not in str(raised.value)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = matpower(tmp_path / "case_test.m", "ieee14", lambda n: n + 1)
    monkeypatch.setitem(sys.modules, "matpowercaseframes", None)
    with pytest.raises(UserError, match=r"needs matpowercaseframes, .* pip install -e '\.\[grid\]'"):
        open_case(str(path))


def test_unknown_branches_and_buses_are_named() -> None:
    grid = open_case("ieee14")
    assert (grid.branch("1_5"), grid.bus("14")) == (1, 13)
    with pytest.raises(UserError, match="no branch '1_55'; did you mean '1_5'"):
        grid.branch("1_55")
    with pytest.raises(UserError, match="no bus '77'"):
        grid.bus("77")


def test_every_published_case_is_a_problem() -> None:
    for name in CASES:
        settings = yaml.safe_load((CONFIGS / "problem" / f"{name}.yaml").read_text())
        assert settings.pop("defaults") == ["grid"]
        assert Grid(**settings).case == name


@pytest.mark.parametrize("outages", [1, 2, 3])
def test_islands_are_those_that_a_search_finds(outages: int) -> None:
    import networkx

    grid = open_case("ieee118")
    rng = np.random.default_rng(outages)
    status = np.ones((300, len(grid.source)))
    for row in status:
        row[rng.choice(len(row), outages, replace=False)] = 0
    whole = networkx.MultiGraph()
    whole.add_edges_from((i, j, k) for k, (i, j) in enumerate(zip(grid.source, grid.target, strict=True)))
    for row, found in zip(status, grid.islanded(status), strict=True):
        left = whole.copy()
        left.remove_edges_from([(grid.source[k], grid.target[k], k) for k in np.flatnonzero(row == 0)])
        assert found != networkx.is_connected(left)


def test_a_run_lies_under_the_name_of_the_variant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "problem=ieee14", "solver=dc", "problem.train=10", "problem.test=2", "compare=false"]) == 0
    (run,) = (tmp_path / "runs" / "ieee14" / "dc").iterdir()
    assert sciml.load(run).problem.settings["case"] == "ieee14"
