"""What certifies a load flow and what flags a scenario before: from the grid's branches, compiled by numba."""

from typing import NamedTuple

import numpy as np
from numba import njit

from sciml.grid._lanes import COMPILED, WIDTH, fixed, gather, greater_size, load, root, scaled, scatter, splat, store


class Branches(NamedTuple):
    """The grid as branches, in its own order, for the certificate.

    Args:
        source: shape (branches,).
        target: shape (branches,).
        y: I = Y V of each branch, complex, shape (branches, 2, 2).
        shunt: complex, shape (buses,).
        loads: bus of each load, shape (loads,).
        regulated: the slack first, shape (regulated,).
        free: whether Q must balance, shape (buses,), bool.
        base: power of one per unit, in MVA.
    """

    source: np.ndarray
    target: np.ndarray
    y: np.ndarray
    shunt: np.ndarray
    loads: np.ndarray
    regulated: np.ndarray
    free: np.ndarray
    base: float


@njit(**COMPILED)
def certify(branches, inputs, voltages, v, lack, greatest):
    """Write how far each scenario's voltages miss its equations, in p.u., into ``greatest``.

    Branch by branch from the grid's arrays: the balance of P and Q where they must hold, the set-points, and
    the slack's angle of zero.

    Args:
        branches: the grid.
        inputs: shape (n, inputs).
        voltages: complex, shape (n, buses).
        v: memory of 2 buses, like ``lack``.
        lack: see there.
        greatest: shape (n,).
    """
    loads, regulated, buses = len(branches.loads), len(branches.regulated), len(branches.shunt)
    width, slack, per_unit = inputs.shape[1], branches.regulated[0], splat(1 / branches.base)
    flat, flat_voltages, rows = inputs.ravel(), voltages.ravel(), np.empty(WIDTH, np.int64)
    for start in range(0, len(inputs), WIDTH):
        for lane in range(WIDTH):
            rows[lane] = min(start + lane, len(inputs) - 1)
        places = scaled(fixed(rows, WIDTH), width)
        at = scaled(fixed(rows, WIDTH), 2 * buses)
        for i in range(2 * buses):
            store(lack, i, splat(0.0))
            store(v, i, gather(flat_voltages, at, i))
        for k in range(loads):
            i = 2 * branches.loads[k]
            store(lack, i, load(lack, i) - gather(flat, places, k) * per_unit)
            store(lack, i + 1, load(lack, i + 1) - gather(flat, places, loads + k) * per_unit)
        most = greater_size(splat(0.0), load(v, 2 * slack + 1))
        for k in range(regulated):
            i = 2 * branches.regulated[k]
            if k:
                store(lack, i, load(lack, i) + gather(flat, places, 2 * loads + k - 1) * per_unit)
            magnitude = root(load(v, i) * load(v, i) + load(v, i + 1) * load(v, i + 1))
            most = greater_size(most, magnitude - gather(flat, places, 2 * loads + regulated - 1 + k))
        for k in range(len(branches.source)):
            i, j = 2 * branches.source[k], 2 * branches.target[k]
            ei, fi, ej, fj = load(v, i), load(v, i + 1), load(v, j), load(v, j + 1)
            present = gather(flat, places, 2 * loads + 2 * regulated - 1 + k)
            for end in range(2):
                own, mutual = branches.y[k, end, end], branches.y[k, end, 1 - end]
                re = splat(own.real) * ei - splat(own.imag) * fi + splat(mutual.real) * ej - splat(mutual.imag) * fj
                im = splat(own.real) * fi + splat(own.imag) * ei + splat(mutual.real) * fj + splat(mutual.imag) * ej
                store(lack, i, load(lack, i) - present * (ei * re + fi * im))
                store(lack, i + 1, load(lack, i + 1) - present * (fi * re - ei * im))
                i, j, ei, fi, ej, fj = j, i, ej, fj, ei, fi
        for i in range(buses):
            square = load(v, 2 * i) * load(v, 2 * i) + load(v, 2 * i + 1) * load(v, 2 * i + 1)
            if i != slack:
                most = greater_size(most, load(lack, 2 * i) - splat(branches.shunt[i].real) * square)
            if branches.free[i]:
                most = greater_size(most, load(lack, 2 * i + 1) + splat(branches.shunt[i].imag) * square)
        scatter(greatest, fixed(rows, WIDTH), 0, most)


@njit(**COMPILED)
def survey(source, target, buses, nominal, inputs, known, islanded, extents):
    """Flag the scenarios in which a bus is cut off; return the most branches that one of them changes.

    Args:
        source: shape (branches,).
        target: shape (branches,).
        buses: number of them.
        nominal: status in which no bus is cut off, shape (branches,).
        inputs: shape (n, inputs), the status of branches last.
        known: of each branch's outage alone whether it cuts a bus off, -1 before it is known, shape (branches,).
        islanded: shape (n,), bool.
        extents: takes the first branch that is changed and the one after the last, shape (n, 2).
    """
    root = np.empty(buses, np.int64)
    first, most = inputs.shape[1] - len(nominal), 0
    for row in range(len(inputs)):
        status = inputs[row, first:]
        changed = 0
        for k in range(len(nominal)):
            changed += status[k] != nominal[k]
        most = max(most, changed)
        islanded[row] = False
        extents[row] = 0
        if changed == 0:
            continue
        branch, end = 0, len(nominal)
        while status[branch] == nominal[branch]:
            branch += 1
        while status[end - 1] == nominal[end - 1]:
            end -= 1
        extents[row, 0], extents[row, 1] = branch, end
        if changed == 1 and known[branch] >= 0 and status[branch] == 0:
            islanded[row] = known[branch] == 1
            continue
        islands = buses
        for i in range(buses):
            root[i] = i
        for k in range(len(source)):
            if status[k] != 0:
                i, j = source[k], target[k]
                while root[i] != i:
                    root[i] = root[root[i]]
                    i = root[i]
                while root[j] != j:
                    root[j] = root[root[j]]
                    j = root[j]
                if i != j:
                    root[i] = j
                    islands -= 1
        islanded[row] = islands > 1
        if changed == 1 and status[branch] == 0:
            known[branch] = islands > 1
    return most
