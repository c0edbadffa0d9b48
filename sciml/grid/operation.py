"""What operation adds to a load flow: generators that hold no voltage, reactive limits, a slack that many share."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch

from sciml.errors import UserError
from sciml.grid.balance import newton
from sciml.grid.powerflow import PowerFlow
from sciml.grid.powergrid import Generators, PowerGrid

_TOLERANCE = 1e-9
"""Of powers, in p.u.; that of the load flow is less."""
Solve = Callable[[PowerGrid], Callable[[np.ndarray], np.ndarray]]
"""For a grid the function from scenarios (n, inputs) to complex voltages (n, buses), NaN without a load flow."""
Sharing = Literal["single", "equal", "capacity"]
"""Who makes up for what is lacking."""


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


def by_newton(grid: PowerGrid) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that finds voltages by Newton-Raphson from the DC load flow; NaN without convergence."""
    flow = PowerFlow(grid)

    def solve(inputs: np.ndarray) -> np.ndarray:
        found = newton(flow, torch.from_numpy(inputs), linear=True)
        return flow.voltages(torch.where(found.converged[:, None, None], found.state, torch.nan))

    return solve


@dataclass(frozen=True)
class Operation:
    """What an answer keeps beside the balance; as it stands, nothing.

    A bus whose set-point is zero holds no voltage, its generators being out.

    Args:
        limits: whether generators keep their reactive limits.
        slack: which regulated buses make up for what is lacking: the slack alone, all that hold their voltage
            alike, or each by its capacity, one without limit as the greatest of the others.
    """

    limits: bool = False
    slack: Sharing = "single"

    def run(self, grid: PowerGrid, inputs: np.ndarray, solve: Solve = by_newton) -> "Operated":
        """Return load flows of scenarios, shape (n, inputs), that keep it."""
        held = grid.split(inputs)[3] != 0
        shares = None if self.slack == "single" else self._shares(grid, held)
        return operate(grid, inputs, held=held, limits=self.limits, shares=shares, solve=solve)

    def lack(self, grid: PowerGrid, inputs: np.ndarray, voltages: np.ndarray) -> np.ndarray:
        """Return by how much voltages miss it, P + jQ in p.u. at each bus, shape (n, buses).

        Active power is missed by what a bus lacks beyond its share of what all lack together, reactive power where no
        generator holds the voltage, and where one would exceed its limit.

        Args:
            grid: the arrays.
            inputs: scenarios, shape (n, inputs).
            voltages: complex, in p.u., shape (n, buses).
        """
        lack = grid.lack(inputs, voltages)
        lack[:, grid.slack] -= grid.at_regulated(grid.generators.power)[0] / grid.base
        held = grid.split(inputs)[3] != 0
        p, q = np.real(lack).copy(), np.imag(lack).copy()
        p[:, grid.regulated] -= self._shares(grid, held) * p.sum(axis=1, keepdims=True)
        supplied = q[:, grid.regulated]
        least, most = (limit / grid.base for limit in _limits(grid)) if self.limits else (-np.inf, np.inf)
        q[:, grid.regulated] = np.where(held, supplied - np.clip(supplied, least, most), supplied)
        return p + 1j * q

    def _shares(self, grid: PowerGrid, held: np.ndarray) -> np.ndarray:
        """Return the shares of what is lacking, shape (n, regulated)."""
        if self.slack == "single":
            weight = np.eye(1, held.shape[1])[0]
        elif self.slack == "equal":
            weight = np.ones(held.shape[1])
        else:
            weight = grid.at_regulated(grid.generators.highest)
            limited = np.isfinite(weight) & (weight > 0)
            weight = np.where(limited | (weight <= 0), weight, weight[limited].max(initial=1.0)).clip(0)
        return held * weight / (held @ weight)[:, None]


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
        shares: shape (regulated,) or (n, regulated), the slack's first; its nominal power is what D counts from.
        solve: of load flows; called once for every set of buses that hold their voltage.
        rounds: the most repetitions.

    Raises:
        UserError: shares of another number, or that do not sum to one.
    """
    able = np.ones((len(inputs), len(grid.regulated)), bool) if held is None else held
    if shares is not None:
        count, sums = shares.shape[-1], shares.sum(axis=-1)
        if count != len(grid.regulated) or not (np.abs(sums - 1) <= 1e-9).all():
            raise UserError(f"{count} shares sum to {np.max(sums):.6g}; expected {len(grid.regulated)}, of sum one")
        shares = np.broadcast_to(shares, able.shape)
    solver = _Solver(grid, solve)
    dispatch = _Dispatch(inputs.copy(), able.copy(), np.zeros(able.shape))
    voltages = np.full((len(inputs), len(grid.numbers)), np.nan, complex)
    settled, active = np.zeros(len(inputs), bool), np.arange(len(inputs))
    for _ in range(rounds):
        now = dispatch.rows(active)
        voltages[active] = solver(now)
        supplied = grid.base * grid.lack(now.inputs, voltages[active])[:, grid.regulated]
        after = now
        if limits:
            after = _limited(grid, after, able[active], np.abs(voltages[active]), supplied.imag)
        if shares is not None:
            after = _shared(grid, after, inputs[active], shares[active], supplied[:, 0].real)
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


class _Solver:
    """Load flows of a dispatch; what depends on which buses hold their voltage is made once for each set of them."""

    def __init__(self, grid: PowerGrid, solve: Solve) -> None:
        self.grid = grid
        self.solve = solve
        self.made: dict[bytes, tuple[PowerGrid, Callable[[np.ndarray], np.ndarray]]] = {}

    def __call__(self, dispatch: _Dispatch) -> np.ndarray:
        """Return voltages, shape (n, buses)."""
        voltages = np.empty((len(dispatch.inputs), len(self.grid.numbers)), complex)
        sets, of = np.unique(dispatch.held, axis=0, return_inverse=True)
        for k, held in enumerate(sets):
            rows = np.flatnonzero(of.ravel() == k)
            if held.tobytes() not in self.made:
                released = _released(self.grid, held)
                self.made[held.tobytes()] = released, self.solve(released)
            released, answer = self.made[held.tobytes()]
            voltages[rows] = answer(_with_fewer(self.grid, released, dispatch.rows(rows), held))
        return voltages


def _released(grid: PowerGrid, held: np.ndarray) -> PowerGrid:
    """Return the grid in which generators of buses that hold no voltage are negative loads."""
    if held.all():
        return grid
    buses = grid.regulated[~held]
    loads, kept = np.union1d(grid.loads, buses), ~np.isin(grid.generators.bus, buses)
    generators = Generators(**{f.name: getattr(grid.generators, f.name)[kept] for f in fields(Generators)})
    return replace(grid, loads=loads, load=np.zeros(len(loads), complex), generators=generators)


def _with_fewer(grid: PowerGrid, released: PowerGrid, dispatch: _Dispatch, held: np.ndarray) -> np.ndarray:
    """Return scenarios of the grid with generators released, shape (n, its inputs)."""
    if held.all():
        return dispatch.inputs
    p_load, q_load, generation, setpoint, status = grid.split(dispatch.inputs)
    buses = grid.regulated[~held]
    demand = np.zeros((len(p_load), len(grid.numbers)), complex)
    demand[:, grid.loads] = p_load + 1j * q_load
    demand[:, buses] -= generation[:, ~held[1:]] + 1j * dispatch.reactive[:, ~held]
    demand = demand[:, released.loads]
    parts = np.real(demand), np.imag(demand), generation[:, held[1:]], setpoint[:, held], status
    return np.concatenate(parts, axis=1)


def _limits(grid: PowerGrid) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and most reactive power of the regulated buses in Mvar, the slack's without limit."""
    least, most = grid.at_regulated(grid.generators.least), grid.at_regulated(grid.generators.most)
    least[0], most[0] = -np.inf, np.inf
    return least, most


def _limited(
    grid: PowerGrid, dispatch: _Dispatch, able: np.ndarray, magnitude: np.ndarray, reactive: np.ndarray
) -> _Dispatch:
    """Return the dispatch with buses beyond a reactive limit freed there, and those that would pass it back held."""
    least, most = _limits(grid)
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
    inputs[:, section] = scheduled[:, section] + shares[:, 1:] * lacking[:, None]
    return replace(dispatch, inputs=inputs)
