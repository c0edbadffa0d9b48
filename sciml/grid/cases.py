"""Grids from elsewhere: the published cases, nets of pandapower, MATPOWER's files."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciml.errors import UserError, did_you_mean, missing, short
from sciml.grid.powergrid import Generators, PowerGrid
from sciml.grid.saved_nets import read_net

if TYPE_CHECKING:
    from pandapower import pandapowerNet

_PD, _QD, _GS, _BS, _KV = 2, 3, 4, 5, 9
_GENERATOR_BUS, _PG, _QG, _QMAX, _QMIN, _VG, _GENERATOR_STATUS, _PMAX, _PMIN = 0, 1, 2, 3, 4, 5, 7, 8, 9
_FROM, _TO, _R, _X, _B, _RATIO, _SHIFT, _BRANCH_STATUS = 0, 1, 2, 3, 4, 8, 9, 10
_CONDUCTANCE, _ASYMMETRY = 23, [21, 22, 24, 25]
_BUS_TYPE, _PQ, _SLACK, _ISOLATED = 1, 1, 3, 4
_UNLIMITED = 1e6
"""MW or Mvar from which on a limit is a placeholder."""

CASES = {
    "ieee14": "case14",
    "ieee30": "case_ieee30",
    "ieee57": "case57",
    "ieee118": "case118",
    "ieee300": "case300",
    "pegase1354": "case1354pegase",
    "rte1888": "case1888rte",
    "rte2848": "case2848rte",
    "pegase2869": "case2869pegase",
    "rte6470": "case6470rte",
    "pegase9241": "case9241pegase",
}
"""The published grids and what pandapower.networks calls them.

The IEEE grids are from the Power Systems Test Case Archive of the University of Washington. RTE's are snapshots
of the French grid of 2013, those of PEGASE stylise the European grid: C. Josz, S. Fliscounakis, J. Maeght and P.
Panciatici, AC power flow data in MATPOWER and QCQP format: iTesla, RTE snapshots, and PEGASE, 2016, arXiv 1603.01533,
under CC BY 4.0.
"""


def open_case(case: str) -> PowerGrid:
    """Return the grid of a published case's name, a MATPOWER file (.m) or a net saved by pandapower (.json).

    Raises:
        UserError: there is none, a package is missing, or the grid has no load flow.
    """
    path = Path(case).expanduser()
    if case in CASES:
        return published(case)
    if path.suffix not in (".m", ".json"):
        expected = f"expected one of {', '.join(CASES)}, or the path of a file .m or .json"
        raise UserError(f"no grid {short(case)}{did_you_mean(case, CASES)} ({expected})")
    if not path.is_file():
        raise UserError(f"no file {short(case)}; expected a MATPOWER file .m, or a net that pandapower.to_json wrote")
    return from_matpower(path) if path.suffix == ".m" else from_pandapower(read_net(path))


def published(name: str) -> PowerGrid:
    """Return one of the published grids, which come with pandapower.

    Args:
        name: a key of ``CASES``.

    Raises:
        UserError: pandapower is not installed.
    """
    try:
        import pandapower.networks
    except ImportError:
        raise missing(name, "pandapower", "grid") from None
    return from_pandapower(getattr(pandapower.networks, CASES[name])())


def from_pandapower(net: "pandapowerNet") -> PowerGrid:
    """Return the grid of a net of pandapower: one voltage phasor per bus, at constant power.

    Lines, transformers of two and three windings, impedances, switches, wards and DC lines become branches and
    injections as pandapower's own load flow has them. Buses go by their names where these are distinct
    numbers, as in the published cases, and by their index otherwise; where a closed switch joins buses, by the
    first of them.

    Args:
        net: left as it is.

    Raises:
        UserError: pandapower is not installed; what the net asks for is not modelled; the grid is not sound.
    """
    try:
        from pandapower.auxiliary import _add_ppc_options
        from pandapower.pd2ppc import _pd2ppc
    except ImportError:
        raise missing("a net", "pandapower", "grid") from None
    net = deepcopy(net)
    _require_sound(net)
    net["_options"] = {}
    _add_ppc_options(
        net, calculate_voltage_angles=True, trafo_model="t", check_connectivity=False, mode="pf", switch_rx_ratio=2,
        init_vm_pu="flat", init_va_degree="flat", enforce_q_lims=True, enforce_p_lims=False, recycle=None,
        voltage_depend_loads=False,
    )  # fmt: skip
    try:
        ppc, alive = _pd2ppc(net)
    except Exception as error:  # pandapower raises what comes to hand
        raise UserError(f"pandapower cannot convert the net: {type(error).__name__}: {error}") from None
    branch = np.real(ppc["branch"])
    branch = branch[(branch[:, [_FROM, _TO]] < len(alive["bus"])).all(axis=1)]
    if branch[:, _ASYMMETRY].any():
        raise UserError("an impedance of the net differs by direction; give it the same values both ways")
    place = net["_pd2ppc_lookups"]["bus"]
    numbers = _numbers(net, place, len(alive["bus"]))
    grid = from_case(alive["baseMVA"], alive["bus"], branch, alive["gen"], numbers, branch[:, _CONDUCTANCE])
    dead = net.bus.index[net.bus.in_service & (place[net.bus.index] >= len(numbers))]
    return replace(grid, left_out=tuple(map(str, dead)), positions=_positions(net, place, len(numbers)))


def _require_sound(net: "pandapowerNet") -> None:
    """Refuse what pandapower's conversion would pass in silence."""
    for element in ("load", "sgen", "gen"):
        for column in ("p_mw", *(("q_mvar",) if element != "gen" else ("vm_pu",))):
            values = net[element][column]
            if (wrong := net[element].in_service & ~np.isfinite(values.astype(float))).any():
                row = values.index[wrong][0]
                raise UserError(f"net.{element}.{column}[{row}] is {values[row]}; expected a finite number")
    if any(len(net[kind]) for kind in ("tcsc", "svc", "ssc", "vsc") if kind in net):
        raise UserError("the net holds power electronics (tcsc, svc, ssc, vsc), which are not modelled; remove them")
    if not (net.ext_grid.in_service.any() or (net.gen.in_service & net.gen.slack).any()):
        raise UserError("the net has no slack; add one by pandapower.create_ext_grid(net, bus)")


def _positions(net: "pandapowerNet", place: np.ndarray, buses: int) -> np.ndarray | None:
    """Return where GeoJSON points put the buses of the array model, shape (buses, 2), or None where there are none."""
    if "geo" not in net.bus:
        return None
    found = np.full((buses, 2), np.nan)
    for index, text in zip(net.bus.index, net.bus["geo"], strict=True):
        if 0 <= place[index] < buses:
            try:
                found[place[index]] = json.loads(text)["coordinates"][:2]
            except (TypeError, ValueError, KeyError):  # no point; drawings do without
                continue
    return None if np.isnan(found).all() else found


def _numbers(net: "pandapowerNet", place: np.ndarray, buses: int) -> np.ndarray:
    """Return what the buses of the array model are called, shape (buses,)."""
    index = net.bus.index.to_numpy()[::-1]
    index = index[(place[index] >= 0) & (place[index] < buses)]
    names = net.bus.name[index]
    if all(isinstance(name, (int, np.integer)) for name in names) and names.is_unique:
        called = names.to_numpy(dtype=int)
    else:
        called = index
    made = iter(range(int(called.max()) + 1, int(called.max()) + 1 + buses))
    numbers = np.full(buses, -1)
    numbers[place[index]] = called
    return np.array([next(made) if n < 0 else n for n in numbers])  # stars of three windings have no name


def from_matpower(path: Path) -> PowerGrid:
    """Return the grid of a MATPOWER file; HVDC lines and costs are left out.

    Format: R. D. Zimmerman, C. E. Murillo-Sánchez and R. J. Thomas, MATPOWER, 2011,
    doi:10.1109/TPWRS.2010.2051168.

    Raises:
        UserError: matpowercaseframes is not installed; the file is no case; the grid is not sound.
    """
    try:
        from matpowercaseframes import CaseFrames
    except ImportError:
        raise missing(path.name, "matpowercaseframes", "grid") from None
    try:
        frames: Any = CaseFrames(str(path))
        base, tables = float(frames.baseMVA), [frames.bus, frames.branch, frames.gen]
        bus, branch, generator = (table.to_numpy(dtype=float) for table in tables)
    except Exception as error:  # whatever a broken file makes of the parser
        raise UserError(f"{path} holds no MATPOWER case: {type(error).__name__}: {error}") from None
    named = bus[:, 0].astype(int)
    if len(np.unique(named)) < len(named):
        raise UserError(f"{path} has a bus number twice; give every bus its own")
    for table, columns, kind in ((branch, [_FROM, _TO], "branch"), (generator, [_GENERATOR_BUS], "generator")):
        if (unknown := ~np.isin(table[:, columns], named)).any():
            number = int(table[:, columns][unknown][0])
            raise UserError(f"{path}: a {kind} is at bus {number}, which is not in the table of buses; correct it")
    alive = bus[:, _BUS_TYPE] != _ISOLATED
    numbers = named[alive]
    order = np.argsort(numbers)

    def counted(table: np.ndarray, columns: list[int]) -> np.ndarray:
        table = table[np.isin(table[:, columns], numbers).all(axis=1)]
        table[:, columns] = order[np.searchsorted(numbers[order], table[:, columns])]
        return table

    tables = counted(branch, [_FROM, _TO]), counted(generator, [_GENERATOR_BUS])
    return replace(from_case(base, bus[alive], *tables, numbers), left_out=tuple(map(str, named[~alive])))


def from_case(
    base: float,
    bus: np.ndarray,
    branch: np.ndarray,
    generator: np.ndarray,
    numbers: np.ndarray,
    conductance: np.ndarray | None = None,
) -> PowerGrid:
    """Return the grid of the tables of a case whose buses are counted from zero.

    Args:
        base: baseMVA.
        bus: the bus table, shape (buses, columns), powers in MW and Mvar.
        branch: the branch table, shape (branches, columns), impedances in p.u.
        generator: the generator table, shape (generators, columns), powers in MW.
        numbers: what the buses are called, shape (buses,).
        conductance: of the branches to earth, in p.u., shape (branches,); none without.

    Raises:
        UserError: no slack, several, or a grid that is not sound.
    """
    slack = _slack(bus, numbers)
    generator = generator[generator[:, _GENERATOR_STATUS] > 0]
    at = generator[:, _GENERATOR_BUS].astype(int)
    unregulated = bus[at, _BUS_TYPE] == _PQ
    demand = bus[:, _PD] + 1j * bus[:, _QD]
    np.subtract.at(demand, at[unregulated], generator[unregulated, _PG] + 1j * generator[unregulated, _QG])
    generator, loads = generator[~unregulated], np.flatnonzero(demand != 0)
    ratio = np.where(branch[:, _RATIO] == 0, 1.0, branch[:, _RATIO])
    return PowerGrid(
        base=float(base),
        numbers=numbers,
        kilovolts=bus[:, _KV],
        source=branch[:, _FROM].astype(int),
        target=branch[:, _TO].astype(int),
        impedance=branch[:, _R] + 1j * branch[:, _X],
        charging=branch[:, _B],
        conductance=np.zeros(len(branch)) if conductance is None else conductance,
        tap=ratio * np.exp(1j * np.deg2rad(branch[:, _SHIFT])),
        in_service=branch[:, _BRANCH_STATUS] > 0,
        shunt=(bus[:, _GS] + 1j * bus[:, _BS]) / base,
        loads=loads,
        load=demand[loads],
        slack=slack,
        generators=Generators(
            bus=at[~unregulated],
            power=generator[:, _PG],
            setpoint=generator[:, _VG],
            lowest=_limit(generator[:, _PMIN]),
            highest=_limit(generator[:, _PMAX]),
            least=_limit(generator[:, _QMIN]),
            most=_limit(generator[:, _QMAX]),
        ),
    )


def _slack(bus: np.ndarray, numbers: np.ndarray) -> int:
    found = np.flatnonzero(bus[:, _BUS_TYPE] == _SLACK)
    if not len(found):
        raise UserError("the grid has no slack; make one bus of it of type 3")
    if len(found) > 1:
        several = ", ".join(str(n) for n in numbers[found][:5])
        raise UserError(
            f"the grid has {len(found)} slack buses ({several}); keep one, and make generators of the others or take"
            " their islands out"
        )
    return int(found[0])


def _limit(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) >= _UNLIMITED, np.copysign(np.inf, values), values)
