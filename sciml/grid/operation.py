"""What operation adds to a load flow: generators that fail, reactive limits, a slack that many share."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from sciml.errors import UserError
from sciml.grid.balance import newton
from sciml.grid.powerflow import PowerFlow
from sciml.grid.powergrid import Generators, PowerGrid

_TOLERANCE = 1e-9
"""Of powers, in p.u.; that of the load flow is less."""
Solve = Callable[[PowerGrid, np.ndarray], np.ndarray]
"""From a grid and scenarios (n, inputs) to complex voltages (n, buses), NaN where there is no load flow."""


@dataclass(frozen=True)
class Operated:
    """Load flows of n scenarios in operation.

    Args:
        voltages: complex, in p.u., shape (n, buses); NaN without a load flow.
        generation: active power at the regulated buses, the slack first, in MW, shape (n, regulated).
        reactive: reactive power there, in Mvar, shape (n, regulated).
        held: where the voltage is held at its set-point, shape (n, regulated), bool.
        settled: whether limits and shares are kept, shape (n,), bool.
    """

    voltages: np.ndarray
    generation: np.ndarray
    reactive: np.ndarray
    held: np.ndarray
    settled: np.ndarray


def by_newton(grid: PowerGrid, inputs: np.ndarray) -> np.ndarray:
    """Return voltages by Newton-Raphson from the DC load flow, shape (n, buses); NaN where it does not converge."""
    flow = PowerFlow(grid)
    found = newton(flow, torch.from_numpy(inputs), linear=True)
    return flow.voltages(torch.where(found.converged[:, None, None], found.state, torch.nan))


def without_generators(grid: PowerGrid, inputs: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scenarios with generators out, shape (n, inputs), and which buses still hold their voltage.

    A bus loses its share of generation, and ceases to be regulated with its last generator; the slack
    makes up for what is lost.

    Args:
        grid: the arrays.
        inputs: scenarios, shape (n, inputs).
        out: the generators that fail, shape (n, generators), bool.

    Returns:
        Inputs, and shape (n, regulated), bool.

    Raises:
        UserError: nothing is left at the slack.
    """
    place = np.argsort(grid.regulated)[np.searchsorted(np.sort(grid.regulated), grid.generators.bus)]
    at = np.equal.outer(place, np.arange(len(grid.regulated))).astype(float)
    held = (~out @ at) > 0
    if not held[:, 0].all():
        raise UserError(f"every generator at the slack, bus {grid.numbers[grid.slack]}, is out; keep one")
    weight = np.abs(grid.generators.power) + 1e-9  # shares of units without power are equal
    share = ((~out * weight) @ at) / (weight @ at)
    first = 2 * len(grid.loads)
    changed = inputs.copy()
    changed[:, first : first + len(grid.generation)] *= share[:, 1:]
    return changed, held


def operate(
    grid: PowerGrid,
    inputs: np.ndarray,
    *,
    held: np.ndarray | None = None,
    limits: bool = False,
    shares: np.ndarray | None = None,
    solve: Solve = by_newton,
    rounds: int = 30,
) -> Operated:
    """Return load flows in which generators fail, keep their reactive limits, or share what the slack makes up for.

    A regulated bus whose generators would have to exceed their reactive limit supplies the limit and leaves its
    voltage free (PV becomes PQ), until the voltage would pass the set-point again. With shares α that sum to
    one, each regulated bus supplies P_i + α_i D instead of the slack alone, D being what is lacking; found by
    repeating the load flow, whose losses hardly change. The slack has no reactive limit.

    Args:
        grid: the arrays.
        inputs: scenarios, shape (n, inputs).
        held: where the voltage is held at all, shape (n, regulated), bool; everywhere without.
        limits: whether reactive limits are kept.
        shares: shape (regulated,), the slack's first; its nominal power is what D counts from.
        solve: of load flows; called once for every set of buses that hold their voltage.
        rounds: the most repetitions.

    Raises:
        UserError: shares of another number, or that do not sum to one.
    """
    if shares is not None and (shares.shape != grid.regulated.shape or abs(shares.sum() - 1) > 1e-9):
        raise UserError(f"{len(shares)} shares sum to {shares.sum():.6g}; expected {len(grid.regulated)}, of sum one")
    able = np.ones((len(inputs), len(grid.regulated)), bool) if held is None else held
    dispatch = _Dispatch(inputs.copy(), able.copy(), np.zeros(able.shape))
    voltages = np.full((len(inputs), len(grid.numbers)), np.nan, complex)
    settled, active = np.zeros(len(inputs), bool), np.arange(len(inputs))
    for _ in range(rounds):
        now = dispatch.rows(active)
        voltages[active] = _solved(grid, now, solve)
        supplied = grid.base * grid.lack(now.inputs, voltages[active])[:, grid.regulated]
        after = now
        if limits:
            after = _limited(grid, after, able[active], np.abs(voltages[active]), supplied.imag)
        if shares is not None:
            after = _shared(grid, after, inputs[active], shares, supplied[:, 0].real)
        done, broken = now.is_near(after, 0.1 * _TOLERANCE * grid.base), np.isnan(voltages[active]).any(axis=1)
        settled[active[done & ~broken]] = True
        dispatch.set(active, after)
        active = active[~done & ~broken]
        if not len(active):
            break
    supplied = grid.base * grid.lack(dispatch.inputs, voltages)[:, grid.regulated]
    generation = np.column_stack([supplied[:, 0].real, grid.split(dispatch.inputs)[2]])
    return Operated(voltages, generation, supplied.imag, dispatch.held, settled)


@dataclass(frozen=True)
class _Dispatch:
    """What generators do: their active power as inputs say, held voltages, reactive power in Mvar elsewhere."""

    inputs: np.ndarray
    held: np.ndarray
    reactive: np.ndarray

    def rows(self, rows: np.ndarray) -> "_Dispatch":
        return _Dispatch(self.inputs[rows], self.held[rows], self.reactive[rows])

    def set(self, rows: np.ndarray, other: "_Dispatch") -> None:
        for field in ("inputs", "held", "reactive"):
            getattr(self, field)[rows] = getattr(other, field)

    def is_near(self, other: "_Dispatch", tolerance: float) -> np.ndarray:
        same = (self.held == other.held).all(axis=1) & (self.reactive == other.reactive).all(axis=1)
        return same & (np.abs(self.inputs - other.inputs).max(axis=1) <= tolerance)


def _solved(grid: PowerGrid, dispatch: _Dispatch, solve: Solve) -> np.ndarray:
    """Return voltages, one solve for each set of buses that hold theirs, shape (n, buses)."""
    voltages = np.empty((len(dispatch.inputs), len(grid.numbers)), complex)
    sets, of = np.unique(dispatch.held, axis=0, return_inverse=True)
    for k, held in enumerate(sets):
        rows = np.flatnonzero(of.ravel() == k)
        voltages[rows] = solve(*_released(grid, dispatch.rows(rows), held))
    return voltages


def _released(grid: PowerGrid, dispatch: _Dispatch, held: np.ndarray) -> tuple[PowerGrid, np.ndarray]:
    """Return the grid and scenarios in which generators of buses that hold no voltage are negative loads."""
    if held.all():
        return grid, dispatch.inputs
    p_load, q_load, generation, setpoint, status = grid.split(dispatch.inputs)
    buses = grid.regulated[~held]
    demand = np.zeros((len(p_load), len(grid.numbers)), complex)
    demand[:, grid.loads] = p_load + 1j * q_load
    demand[:, buses] -= generation[:, ~held[1:]] + 1j * dispatch.reactive[:, ~held]
    loads = np.union1d(grid.loads, buses)
    kept = ~np.isin(grid.generators.bus, buses)
    generators = Generators(**{f.name: getattr(grid.generators, f.name)[kept] for f in fields(Generators)})
    fewer = replace(grid, loads=loads, load=np.zeros(len(loads), complex), generators=generators)
    demand = demand[:, loads]
    parts = np.real(demand), np.imag(demand), generation[:, held[1:]], setpoint[:, held], status
    return fewer, np.concatenate(parts, axis=1)


def _limited(
    grid: PowerGrid, dispatch: _Dispatch, able: np.ndarray, magnitude: np.ndarray, reactive: np.ndarray
) -> _Dispatch:
    """Return the dispatch with buses beyond a reactive limit freed there, and those that would pass it back held."""
    least, most = grid.at_regulated(grid.generators.least), grid.at_regulated(grid.generators.most)
    least[0], most[0] = -np.inf, np.inf
    slack = _TOLERANCE * grid.base
    over, under = (dispatch.held & beyond for beyond in (reactive > most + slack, reactive < least - slack))
    above = magnitude[:, grid.regulated] - grid.split(dispatch.inputs)[3]
    at_most, at_least = dispatch.reactive == most, dispatch.reactive == least
    back = ~dispatch.held & able & ((at_most & ~at_least & (above > 1e-9)) | (at_least & ~at_most & (above < -1e-9)))
    held = (dispatch.held & ~over & ~under) | back
    fixed = np.where(over, most, np.where(under, least, dispatch.reactive))
    return _Dispatch(dispatch.inputs, held, np.where(held, 0.0, fixed))


def _shared(
    grid: PowerGrid, dispatch: _Dispatch, scheduled: np.ndarray, shares: np.ndarray, slack: np.ndarray
) -> _Dispatch:
    """Return the dispatch with what is lacking shared; ``slack`` is the power that its bus supplies now, in MW."""
    section = slice(2 * len(grid.loads), 2 * len(grid.loads) + len(grid.generation))
    beyond = (dispatch.inputs - scheduled)[:, section].sum(axis=1)
    lacking = slack - grid.at_regulated(grid.generators.power)[0] + beyond
    inputs = dispatch.inputs.copy()
    inputs[:, section] = scheduled[:, section] + shares[1:] * lacking[:, None]
    return replace(dispatch, inputs=inputs)
