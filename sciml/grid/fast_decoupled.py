"""The fast decoupled load flow of many scenarios."""

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import splu

from sciml.grid.balance import Pattern, block_diagonal
from sciml.grid.dc import susceptances
from sciml.grid.powergrid import PowerGrid

_TOGETHER = 64
"""Scenarios in one factorisation."""


def fast_decoupled(grid: PowerGrid, inputs: np.ndarray, tolerance: float = 1e-8, iterations: int = 100) -> np.ndarray:
    """Return complex voltages in p.u., shape (n, buses); NaN where islanded, as they stand where not converged.

    B' Δθ = ΔP / |V|,  then  B'' Δ|V| = ΔQ / |V|

    Both matrices are constant for the branches in service: in B' resistances, shunts and taps are left out (the XB
    scheme), in B'' only phase shifts. Source: B. Stott and O. Alsaç, Fast decoupled load flow, 1974,
    doi:10.1109/TPAS.1974.293985.

    Args:
        grid: the arrays.
        inputs: scenarios, shape (n, inputs).
        tolerance: greatest mismatch at which a scenario is solved, in p.u.
        iterations: the most, of two half steps each.
    """
    found = np.full((len(inputs), len(grid.numbers)), np.nan, complex)
    whole = np.flatnonzero(~grid.islanded(grid.split(inputs)[4]))
    for first in range(0, len(whole), _TOGETHER):
        rows = whole[first : first + _TOGETHER]
        found[rows] = _block(grid, inputs[rows], tolerance, iterations)
    return found


def _block(grid: PowerGrid, inputs: np.ndarray, tolerance: float, iterations: int) -> np.ndarray:
    """Return the voltages of scenarios whose matrices are factorised as one block-diagonal matrix."""
    *_, setpoint, status = grid.split(inputs)
    free = np.arange(len(grid.numbers)) != grid.slack
    loose = ~np.isin(np.arange(len(grid.numbers)), grid.regulated)
    try:
        steps = [splu(block_diagonal(*matrix)) for matrix in (_active(grid, status), _reactive(grid, status, loose))]
    except RuntimeError:  # one singular matrix spoils the factorisation of all
        if len(inputs) == 1:
            return np.full((1, len(free)), np.nan, complex)
        return np.concatenate([_block(grid, inputs[k : k + 1], tolerance, iterations) for k in range(len(inputs))])
    angle, magnitude = np.zeros((2, len(inputs), len(free)))
    magnitude[:] = 1.0
    magnitude[:, grid.regulated] = setpoint
    going = np.ones(len(inputs), bool)
    with np.errstate(all="ignore"):  # what diverges does so alone
        for half in range(2 * iterations + 1):
            lack = grid.mismatch(inputs, magnitude * np.exp(1j * angle))
            going &= np.maximum(np.abs(np.real(lack)), np.abs(np.imag(lack))).max(axis=1) > tolerance
            if half == 2 * iterations or not going.any():
                break
            part, state, sought = ((np.real, angle, free), (np.imag, magnitude, loose))[half % 2]
            right = (part(lack) / magnitude)[:, sought]
            step = steps[half % 2].solve(right.ravel()).reshape(right.shape)
            state[:, sought] -= np.where(going[:, None], step, 0.0)
        return magnitude * np.exp(1j * angle)


def _active(grid: PowerGrid, status: np.ndarray) -> tuple[Pattern, np.ndarray]:
    """Return the pattern and the entries of B', shape (n, entries)."""
    pattern, linear = susceptances(grid)
    return pattern, (linear @ (status / np.imag(grid.impedance)).T).T


def _reactive(grid: PowerGrid, status: np.ndarray, loose: np.ndarray) -> tuple[Pattern, np.ndarray]:
    """Return the pattern and the entries of B'', shape (n, entries), at the buses whose magnitude is sought."""
    series, ratio = -np.imag(1 / grid.impedance), np.abs(grid.tap)
    own = series - grid.charging / 2
    branch = np.stack([own / ratio**2, -series / ratio, -series / ratio, own])
    i, j, buses = grid.source, grid.target, np.arange(len(loose))
    rank = np.where(loose, np.cumsum(loose) - 1, -1)
    rows, columns = rank[np.r_[i, i, j, j, buses]], rank[np.r_[i, j, i, j, buses]]
    kept = (rows >= 0) & (columns >= 0)
    pattern, entry = Pattern.of(rows[kept], columns[kept], int(loose.sum()))
    contributions = np.concatenate(
        [(status[:, None] * branch).reshape(len(status), -1), np.tile(-np.imag(grid.shunt), (len(status), 1))], axis=1
    )[:, kept]
    sums = csr_array(coo_array((np.ones(len(entry)), (entry, np.arange(len(entry)))), (len(pattern.rows), len(entry))))
    return pattern, (sums @ contributions.T).T
