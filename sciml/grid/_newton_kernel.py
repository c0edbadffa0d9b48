"""One step of Newton's method for the load flow of ``WIDTH`` scenarios at once, compiled by numba on first use."""

from typing import NamedTuple

import numpy as np
from numba import njit

from sciml.grid._lanes import COMPILED, WIDTH, greater_size, load, splat, store


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
        lu: the factors.
        y: one admittance.
    """

    e: np.ndarray
    f: np.ndarray
    s: np.ndarray
    flow: np.ndarray
    x: np.ndarray
    lu: np.ndarray
    y: np.ndarray


@njit(**COMPILED)
def _changed(y, g, b, changes, c, a):
    """Write admittance ``a`` of all lanes into ``y`` and return the next change."""
    store(y, 0, splat(g))
    store(y, 1, splat(b))
    while changes.admittance[c] == a:
        y[changes.lane[c]] += changes.g[c]
        y[WIDTH + changes.lane[c]] += changes.b[c]
        c += 1
    return c


@njit(**COMPILED)
def mismatch(circuit, tape, work, changes):
    """Compute what flows from each bus and what is lacking; return the greatest |lack| of each lane."""
    e, f, y = work.e, work.f, work.y
    most, c = splat(0.0), 0
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


@njit(**COMPILED)
def factorise(circuit, tape, work, changes):
    """Factorise the Jacobian of (P, Q) by (angle, log of magnitude), and eliminate forwards in ``x``.

    One long function: with the products of blocks in one of their own it takes five times as long, inlined or not.
    """
    e, f, lu, y, x = work.e, work.f, work.lu, work.y, work.x
    zero, one, c = splat(0.0), splat(1.0), 0
    pivot, growth = zero, one
    for i in range(len(tape.size)):
        two_rows = tape.size[i] == 2
        ei, fi = load(e, i), load(f, i)
        x0, x1 = load(x, 2 * i), zero
        if two_rows:
            x1 = load(x, 2 * i + 1)
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
                    a00, a01 = q - all_q, all_p + p
                    a10, a11 = all_p - p, all_q + q
                    pivot = a00 * a11 - a01 * a10 if two_rows else a00
                else:
                    a00, a01 = q, p
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
                    xj0, xj1 = load(x, 2 * j), load(x, 2 * j + 1)
                    x0, x1 = x0 - a00 * xj0 - a01 * xj1, x1 - a10 * xj0 - a11 * xj1
                else:
                    d00 = load(lu, d)
                    a00, a10 = a00 * d00, a10 * d00
                    xj0 = load(x, 2 * j)
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


@njit(**COMPILED)
def substitute(tape, work):
    """Solve U x = x backwards, and move the voltages by the step."""
    e, f, lu, x = work.e, work.f, work.lu, work.x
    half, one = splat(0.5), splat(1.0)
    for i in range(len(tape.size) - 1, -1, -1):
        two_rows = tape.size[i] == 2
        x0 = load(x, 2 * i)
        x1 = x0
        if two_rows:
            x1 = load(x, 2 * i + 1)
        for n in range(tape.above[i], tape.start[i + 1] - 1):
            j, s = tape.column[n], tape.slot[n]
            xj0 = load(x, 2 * j)
            if tape.size[j] == 2:
                xj1 = load(x, 2 * j + 1)
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
            grown = one + x1
            ei, fi = ei * grown, fi * grown
        else:
            x0 = load(lu, d) * x0
        store(x, 2 * i, x0)
        t = x0 * half
        scale = one / (one + t * t)
        cos, sin = (one - t * t) * scale, (t + t) * scale  # turns by 2 atan(x0 / 2): the magnitude stays exactly
        store(e, i, ei * cos - fi * sin)
        store(f, i, ei * sin + fi * cos)
