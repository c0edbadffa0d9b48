"""Screening of outages: any solver ranks them by the overload it predicts, Newton's method certifies the first."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sciml.errors import UserError
from sciml.grid.newton_batch import NewtonBatch, outputs, voltages
from sciml.grid.powergrid import PowerGrid

Answer = Callable[[np.ndarray], np.ndarray]
"""From scenarios (n, inputs) to magnitudes in p.u. and angles in degrees, (n, outputs); NaN where there is none."""
_TOGETHER = 4096
"""Outages whose currents are held at once; bounds the memory."""


@dataclass(frozen=True)
class Outages:
    """Every outage of a number of branches, from one state.

    Args:
        inputs: scenarios, shape (n, inputs).
        branches: the places of those out, shape (n, out).
        islanded: how many are left out because a bus is cut off.
    """

    inputs: np.ndarray
    branches: np.ndarray
    islanded: int


def all_outages(grid: PowerGrid, out: int, state: np.ndarray | None = None) -> Outages:
    """Return every outage of ``out`` branches in service.

    Args:
        grid: the arrays.
        out: branches out at once.
        state: the scenario before, shape (inputs,); the nominal one without.

    Raises:
        UserError: there are too few branches.
    """
    state = grid.nominal if state is None else state
    status = state[-len(grid.source) :]
    sets = np.array([*combinations(np.flatnonzero(status), out)], int)
    if not len(sets):
        raise UserError(f"{int(status.sum())} branches are in service, {out} cannot be out; ask for fewer")
    statuses = np.tile(status, (len(sets), 1))
    np.put_along_axis(statuses, sets, 0.0, axis=1)
    whole = ~grid.islanded(statuses)
    inputs = np.tile(state, (int(whole.sum()), 1))
    inputs[:, -len(grid.source) :] = statuses[whole]
    return Outages(inputs, sets[whole], int((~whole).sum()))


def limits(grid: PowerGrid, answer: Answer, margin: float, state: np.ndarray | None = None) -> np.ndarray:
    """Return a current limit for each branch in A, shape (branches,), as the published grids state none.

    The grid is taken to bear any single outage: a limit is ``margin`` times the greatest current, at either end,
    with all branches in service or one out.

    Args:
        grid: the arrays.
        answer: exact.
        margin: above the greatest current.
        state: the scenario before, shape (inputs,); the nominal one without.
    """
    inputs = np.concatenate([all_outages(grid, out, state).inputs for out in (0, 1)])
    greatest = np.nanmax(_currents(grid, answer, inputs), axis=0)
    return margin * np.where(greatest > 0, greatest, np.inf)


def loadings(grid: PowerGrid, answer: Answer, inputs: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Return the greatest share of its limit that a branch carries, shape (n,); NaN without an answer.

    Args:
        grid: the arrays.
        answer: of any solver.
        inputs: scenarios, shape (n, inputs).
        limit: in A, shape (branches,).
    """
    parts = [inputs[k : k + _TOGETHER] for k in range(0, len(inputs), _TOGETHER)]
    return np.concatenate([(_currents(grid, answer, part) / limit).max(axis=1) for part in parts])


def certifying(solver: NewtonBatch) -> Answer:
    """Return the answers of a solver that are certified, NaN elsewhere."""

    def answer(inputs: np.ndarray) -> np.ndarray:
        found = solver.solve(inputs)
        return outputs(np.where(found.converged[:, None], found.voltages, np.nan))

    return answer


def ranked(loading: np.ndarray) -> np.ndarray:
    """Return the places of outages, the greatest loading first, what has no answer before all, shape (n,)."""
    return np.argsort(-np.where(np.isnan(loading), np.inf, loading), kind="stable")


def overloaded(loading: np.ndarray) -> np.ndarray:
    """Return where a branch carries more than its limit, or there is no load flow, shape (n,), bool."""
    return ~(loading <= 1)


def _currents(grid: PowerGrid, answer: Answer, inputs: np.ndarray) -> np.ndarray:
    """Return the greater current of each branch's ends, in A, shape (n, branches)."""
    return grid.currents(voltages(answer(inputs)), inputs[:, -len(grid.source) :]).max(axis=1)
