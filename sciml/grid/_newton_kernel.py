"""Newton's method for the load flow of ``WIDTH`` scenarios at once, compiled by numba on first use."""

from typing import NamedTuple

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple

from sciml.grid._lanes import WIDTH, gather, greater_size, like, load, root, scaled, scatter, splat, store
from sciml.grid._lu import Tape

_COMPILED = {"cache": True, "error_model": "numpy", "nogil": True}


class Circuit(NamedTuple):
    """The grid in the order of elimination, the slack last.

    Admittances come row by row in the order of the tape's entries, the slack's column at last.

    Args:
        bus: place in the grid of each bus, shape (buses,).
        start: first admittance of each row, shape (buses,).
        column: of each admittance, shape (admittances,).
        g: real parts, shape (admittances,).
        b: imaginary parts, shape (admittances,).
        entry: admittance of each entry of the tape, -1 for fill, shape (entries,).
    """

    bus: np.ndarray
    start: np.ndarray
    column: np.ndarray
    g: np.ndarray
    b: np.ndarray
    entry: np.ndarray


class Changes(NamedTuple):
    """What the outages of a block add to admittances, sorted by admittance.

    Args:
        admittance: changed, shape (changes + 1,), the one after the last beyond all.
        lane: of the scenario.
        g: real part added.
        b: imaginary part added.
    """

    admittance: np.ndarray
    lane: np.ndarray
    g: np.ndarray
    b: np.ndarray


class Work(NamedTuple):
    """Memory for one block, shape (slots * WIDTH,) each.

    Args:
        e: real parts of voltages.
        f: imaginary parts.
        s: wanted P, Q of each bus.
        flow: what leaves each bus, P, Q.
        x: residual, then Newton's step.
        lu: the factors, in the precision of the factorisation.
        y: one admittance.
    """

    e: np.ndarray
    f: np.ndarray
    s: np.ndarray
    flow: np.ndarray
    x: np.ndarray
    lu: np.ndarray
    y: np.ndarray


@njit(**_COMPILED)
def _changed(y, g, b, changes, c, a):  # noqa: ANN001, ANN202
    """Write admittance ``a`` of all lanes into ``y`` and return the next change."""
    store(y, 0, splat(g))
    store(y, 1, splat(b))
    while changes.admittance[c] == a:
        y[changes.lane[c]] += changes.g[c]
        y[WIDTH + changes.lane[c]] += changes.b[c]
        c += 1
    return c


@njit(**_COMPILED)
def mismatch(circuit, tape, work, changes, c):  # noqa: ANN001, ANN201
    """Compute what flows from each bus and what is lacking; return the greatest |lack| of each lane."""
    e, f, y = work.e, work.f, work.y
    most = splat(0.0)
    for i in range(len(tape.size)):
        current_e, current_f = splat(0.0), splat(0.0)
        for a in range(circuit.start[i], circuit.start[i + 1]):
            j = circuit.column[a]
            g, b = splat(circuit.g[a]), splat(circuit.b[a])
            if changes.admittance[c] == a:
                c = _changed(y, circuit.g[a], circuit.b[a], changes, c, a)
                g, b = load(y, 0), load(y, 1)
            ej, fj = load(e, j), load(f, j)
            current_e = current_e + g * ej - b * fj
            current_f = current_f + g * fj + b * ej
        ei, fi = load(e, i), load(f, i)
        p, q = ei * current_e + fi * current_f, fi * current_e - ei * current_f
        store(work.flow, 2 * i, p)
        store(work.flow, 2 * i + 1, q)
        lack = load(work.s, 2 * i) - p
        store(work.x, 2 * i, lack)
        most = greater_size(most, lack)
        if tape.size[i] == 2:
            lack = load(work.s, 2 * i + 1) - q
            store(work.x, 2 * i + 1, lack)
            most = greater_size(most, lack)
    return most


@njit(**_COMPILED)
def factorise(circuit, tape, work, changes, c):  # noqa: ANN001, ANN201
    """Factorise the Jacobian of (P, Q) by (angle, log of magnitude), and eliminate forwards in ``x``."""
    e, f, lu, y, x = work.e, work.f, work.lu, work.y, work.x
    zero = like(lu, splat(0.0))
    pivot = zero
    one = like(lu, splat(1.0))
    growth = one
    for i in range(len(tape.size)):
        two_rows = tape.size[i] == 2
        ei, fi = load(e, i), load(f, i)
        x0, x1 = like(lu, load(x, 2 * i)), zero
        if two_rows:
            x1 = like(lu, load(x, 2 * i + 1))
        last = tape.start[i + 1] - 1
        for n in range(tape.start[i], tape.start[i + 1]):
            j = tape.column[n]
            two_columns = tape.size[j] == 2
            a00, a01, a10, a11 = zero, zero, zero, zero
            a = circuit.entry[n]
            if a >= 0:
                while changes.admittance[c] < a:  # of the slack's column
                    c += 1
                g, b = splat(circuit.g[a]), splat(circuit.b[a])
                if changes.admittance[c] == a:
                    c = _changed(y, circuit.g[a], circuit.b[a], changes, c, a)
                    g, b = load(y, 0), load(y, 1)
                ej, fj = load(e, j), load(f, j)
                re, im = g * ej - b * fj, g * fj + b * ej
                p, q = ei * re + fi * im, fi * re - ei * im
                if n == last:
                    all_p, all_q = load(work.flow, 2 * i), load(work.flow, 2 * i + 1)
                    a00, a01 = like(lu, q - all_q), like(lu, all_p + p)
                    a10, a11 = like(lu, all_p - p), like(lu, all_q + q)
                    pivot = a00 * a11 - a01 * a10 if two_rows else a00
                else:
                    a00, a01 = like(lu, q), like(lu, p)
                    a10, a11 = zero - a01, a00
            single, double, end = tape.single[n], tape.double[n], tape.single[n + 1]
            if two_rows and two_columns:
                for m in range(single, double):
                    left, right = tape.left[m], tape.right[m]
                    l0, l1 = load(lu, left), load(lu, left + 1)
                    u0, u1 = load(lu, right), load(lu, right + 1)
                    a00, a01 = a00 - l0 * u0, a01 - l0 * u1
                    a10, a11 = a10 - l1 * u0, a11 - l1 * u1
                for m in range(double, end):
                    left, right = tape.left[m], tape.right[m]
                    l00, l01, l10, l11 = load(lu, left), load(lu, left + 1), load(lu, left + 2), load(lu, left + 3)
                    u00, u01 = load(lu, right), load(lu, right + 1)
                    u10, u11 = load(lu, right + 2), load(lu, right + 3)
                    a00, a01 = a00 - l00 * u00 - l01 * u10, a01 - l00 * u01 - l01 * u11
                    a10, a11 = a10 - l10 * u00 - l11 * u10, a11 - l10 * u01 - l11 * u11
            elif two_rows:
                for m in range(single, double):
                    left, u0 = tape.left[m], load(lu, tape.right[m])
                    a00, a10 = a00 - load(lu, left) * u0, a10 - load(lu, left + 1) * u0
                for m in range(double, end):
                    left, right = tape.left[m], tape.right[m]
                    u0, u1 = load(lu, right), load(lu, right + 1)
                    a00 = a00 - load(lu, left) * u0 - load(lu, left + 1) * u1
                    a10 = a10 - load(lu, left + 2) * u0 - load(lu, left + 3) * u1
            elif two_columns:
                for m in range(single, double):
                    l0, right = load(lu, tape.left[m]), tape.right[m]
                    a00, a01 = a00 - l0 * load(lu, right), a01 - l0 * load(lu, right + 1)
                for m in range(double, end):
                    left, right = tape.left[m], tape.right[m]
                    l0, l1 = load(lu, left), load(lu, left + 1)
                    a00 = a00 - l0 * load(lu, right) - l1 * load(lu, right + 2)
                    a01 = a01 - l0 * load(lu, right + 1) - l1 * load(lu, right + 3)
            else:
                for m in range(single, double):
                    a00 = a00 - load(lu, tape.left[m]) * load(lu, tape.right[m])
                for m in range(double, end):
                    left, right = tape.left[m], tape.right[m]
                    a00 = a00 - load(lu, left) * load(lu, right) - load(lu, left + 1) * load(lu, right + 1)
            if j < i:
                d = tape.diagonal[j]
                if two_columns:
                    d00, d01, d10, d11 = load(lu, d), load(lu, d + 1), load(lu, d + 2), load(lu, d + 3)
                    a00, a01 = a00 * d00 + a01 * d10, a00 * d01 + a01 * d11
                    a10, a11 = a10 * d00 + a11 * d10, a10 * d01 + a11 * d11
                    xj0, xj1 = like(lu, load(x, 2 * j)), like(lu, load(x, 2 * j + 1))
                    x0, x1 = x0 - a00 * xj0 - a01 * xj1, x1 - a10 * xj0 - a11 * xj1
                else:
                    d00 = load(lu, d)
                    a00, a10 = a00 * d00, a10 * d00
                    xj0 = like(lu, load(x, 2 * j))
                    x0, x1 = x0 - a00 * xj0, x1 - a10 * xj0
            elif n == last:
                if two_rows:
                    inverse = one / (a00 * a11 - a01 * a10)
                    growth = greater_size(growth, pivot * inverse)
                    a00, a01, a10, a11 = (
                        a11 * inverse,
                        zero - a01 * inverse,
                        zero - a10 * inverse,
                        a00 * inverse,
                    )
                else:
                    a00 = one / a00
                    growth = greater_size(growth, pivot * a00)
            s = tape.slot[n]
            store(lu, s, a00)
            if two_rows and two_columns:
                store(lu, s + 1, a01)
                store(lu, s + 2, a10)
                store(lu, s + 3, a11)
            elif two_rows:
                store(lu, s + 1, a10)
            elif two_columns:
                store(lu, s + 1, a01)
        store(x, 2 * i, x0)
        if two_rows:
            store(x, 2 * i + 1, x1)
    return growth


@njit(**_COMPILED)
def substitute(tape, work):  # noqa: ANN001, ANN201
    """Solve U x = x backwards, and move the voltages by the step."""
    e, f, lu, x = work.e, work.f, work.lu, work.x
    half, one = splat(0.5), splat(1.0)
    for i in range(len(tape.size) - 1, -1, -1):
        two_rows = tape.size[i] == 2
        x0 = like(lu, load(x, 2 * i))
        x1 = x0
        if two_rows:
            x1 = like(lu, load(x, 2 * i + 1))
        for n in range(tape.above[i], tape.start[i + 1] - 1):
            j, s = tape.column[n], tape.slot[n]
            xj0 = like(lu, load(x, 2 * j))
            if tape.size[j] == 2:
                xj1 = like(lu, load(x, 2 * j + 1))
                x0 = x0 - load(lu, s) * xj0 - load(lu, s + 1) * xj1
                if two_rows:
                    x1 = x1 - load(lu, s + 2) * xj0 - load(lu, s + 3) * xj1
            else:
                x0 = x0 - load(lu, s) * xj0
                if two_rows:
                    x1 = x1 - load(lu, s + 1) * xj0
        d = tape.diagonal[i]
        ei, fi = load(e, i), load(f, i)
        if two_rows:
            x0, x1 = load(lu, d) * x0 + load(lu, d + 1) * x1, load(lu, d + 2) * x0 + load(lu, d + 3) * x1
            store(x, 2 * i + 1, x1)
            grown = one + like(e, x1)
            ei, fi = ei * grown, fi * grown
        else:
            x0 = load(lu, d) * x0
        store(x, 2 * i, x0)
        t = like(e, x0) * half
        scale = one / (one + t * t)
        cos, sin = (one - t * t) * scale, (t + t) * scale  # turns by 2 atan(x0 / 2): the magnitude stays exactly
        store(e, i, ei * cos - fi * sin)
        store(f, i, ei * sin + fi * cos)


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


@njit(**_COMPILED)
def _read(layout, circuit, work, inputs, rows, starts, begin):  # noqa: ANN001, ANN202
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


@njit(**_COMPILED)
def _outages(layout, changes, status, extent, lane, count):  # noqa: ANN001, ANN202
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


@njit(**_COMPILED)
def solve(circuit, tape, layout, work, changes, extents, inputs, rows, starts, tolerance, most, voltages, iterations, growth):  # noqa: ANN001, ANN201
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
        places = to_fixed_tuple(here, WIDTH)
        single = len(starts) == 1
        _read(layout, circuit, work, flat, scaled(places, width), flat_starts, scaled(places, 0 if single else 2 * buses))
        taken[:] = -1
        store(grown, 0, splat(1.0))
        for step in range(most + 1):
            store(last, 0, mismatch(circuit, tape, work, changes, 0))
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
            store(grown, 0, greater_size(load(grown, 0), factorise(circuit, tape, work, changes, 0)))
            substitute(tape, work)
        places = scaled(places, 2 * buses)
        for i in range(buses):
            scatter(flat_voltages, places, 2 * circuit.bus[i], load(work.e, i))
            scatter(flat_voltages, places, 2 * circuit.bus[i] + 1, load(work.f, i))
        for lane in range(WIDTH):
            iterations[here[lane]] = taken[lane]
            growth[here[lane]] = grown[lane]
