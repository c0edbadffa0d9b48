"""Newton's method for the load flow of scenarios, block by block of ``WIDTH``, compiled by numba on first use."""

from typing import NamedTuple

import numpy as np
from numba import njit

from sciml.grid._lanes import COMPILED, WIDTH, fixed, gather, greater_size, load, root, scaled, scatter, splat, store
from sciml.grid._newton_kernel import factorise, mismatch, substitute


class Layout(NamedTuple):
    """Where a scenario's numbers belong; buses in the order of elimination.

    Args:
        base: power of one per unit, in MVA.
        loads: bus of each load, shape (loads,).
        regulated: bus of each that holds its voltage, the slack first, shape (regulated,).
        first: column of the first branch's status.
        status: nominal, shape (branches,).
        ends: admittances that a branch is part of, at ii, ij, ji and jj, -1 in the slack's row, shape (branches, 4).
        y: what it adds to them, complex, shape (branches, 4).
    """

    base: float
    loads: np.ndarray
    regulated: np.ndarray
    first: int
    status: np.ndarray
    ends: np.ndarray
    y: np.ndarray


@njit(**COMPILED)
def _read(layout, circuit, work, inputs, rows, starts, begin):
    """Write scenarios and their start into the lanes; ``rows`` and ``begin`` are where these begin, flat."""
    s, e, f = work.s, work.e, work.f
    loads, regulated = len(layout.loads), len(layout.regulated)
    zero, per_unit = splat(0.0), splat(1 / layout.base)
    for i in range(len(circuit.bus)):
        store(s, 2 * i, zero)
        store(s, 2 * i + 1, zero)
        store(e, i, gather(starts, begin, 2 * circuit.bus[i]))
        store(f, i, gather(starts, begin, 2 * circuit.bus[i] + 1))
    for k in range(loads):
        i = 2 * layout.loads[k]
        store(s, i, load(s, i) - gather(inputs, rows, k) * per_unit)
        store(s, i + 1, load(s, i + 1) - gather(inputs, rows, loads + k) * per_unit)
    for k in range(1, regulated):
        i = 2 * layout.regulated[k]
        store(s, i, load(s, i) + gather(inputs, rows, 2 * loads + k - 1) * per_unit)
    for k in range(regulated):
        i = layout.regulated[k]
        ei, fi = load(e, i), load(f, i)
        scale = gather(inputs, rows, 2 * loads + regulated - 1 + k) / root(ei * ei + fi * fi)
        store(e, i, ei * scale)
        store(f, i, fi * scale)


@njit(**COMPILED)
def _outages(layout, changes, status, extent, lane, count):
    """Insert what the status of branches in an extent changes, and return how many changes there are then."""
    for branch in range(extent[0], extent[1]):
        more = status[branch] - layout.status[branch]
        if more != 0:
            for k in range(4):
                a = layout.ends[branch, k]
                if a < 0:
                    continue
                at = count
                while at and changes.admittance[at - 1] > a:
                    changes.admittance[at] = changes.admittance[at - 1]
                    changes.lane[at] = changes.lane[at - 1]
                    changes.g[at] = changes.g[at - 1]
                    changes.b[at] = changes.b[at - 1]
                    at -= 1
                changes.admittance[at] = a
                changes.lane[at] = lane
                changes.g[at] = more * layout.y[branch, k].real
                changes.b[at] = more * layout.y[branch, k].imag
                count += 1
    return count


@njit(**COMPILED)
def solve(
    circuit, tape, layout, work, changes, extents, inputs, rows, starts, tolerance, most, voltages, iterations, growth
):
    """Solve rows of ``inputs`` block by block from ``starts`` (one, or one for each row) into ``voltages``.

    A block is done once every lane is, at the latest after ``most`` steps; iterations of a lane that is not
    done by then are -1. ``growth`` takes how many times smaller a pivot became than it was in the Jacobian.
    """
    flat, flat_starts, flat_voltages = inputs.ravel(), starts.ravel(), voltages.ravel()
    width, buses = inputs.shape[1], len(circuit.bus)
    last, grown = np.empty(WIDTH), np.empty(WIDTH)
    here, taken = np.empty(WIDTH, np.int64), np.empty(WIDTH, np.int64)
    for first in range(0, len(rows), WIDTH):
        count = 0
        for lane in range(WIDTH):
            here[lane] = row = rows[min(first + lane, len(rows) - 1)]
            count = _outages(layout, changes, inputs[row, layout.first :], extents[row], lane, count)
        changes.admittance[count] = len(circuit.g)
        places = fixed(here, WIDTH)
        single = len(starts) == 1
        _read(
            layout, circuit, work, flat, scaled(places, width), flat_starts, scaled(places, 0 if single else 2 * buses)
        )
        taken[:] = -1
        store(grown, 0, splat(1.0))
        for step in range(most + 1):
            store(last, 0, mismatch(circuit, tape, work, changes))
            done = True
            for lane in range(WIDTH):
                if last[lane] <= tolerance:
                    if taken[lane] < 0:
                        taken[lane] = step
                else:
                    taken[lane] = -1
                    done = done and last[lane] != last[lane]  # NaN will not come back
            if done or step == most:
                break
            store(grown, 0, greater_size(load(grown, 0), factorise(circuit, tape, work, changes)))
            substitute(tape, work)
        places = scaled(places, 2 * buses)
        for i in range(buses):
            scatter(flat_voltages, places, 2 * circuit.bus[i], load(work.e, i))
            scatter(flat_voltages, places, 2 * circuit.bus[i] + 1, load(work.f, i))
        for lane in range(WIDTH):
            iterations[here[lane]] = taken[lane]
            growth[here[lane]] = grown[lane]
