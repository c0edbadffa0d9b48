"""The load flow linearised at the flat profile."""

import numpy as np
from scipy.sparse import coo_array, csr_array

from sciml.grid.balance import Pattern, solve_blocks
from sciml.grid.powergrid import PowerGrid


def susceptances(grid: PowerGrid) -> tuple[Pattern, csr_array]:
    """Return the pattern of B', the DC matrix without the slack, and its entries as a linear map of branches'.

    Args:
        grid: the arrays.

    Returns:
        The pattern, and shape (entries, branches): to be applied to b of every branch.
    """
    free = np.cumsum(np.arange(len(grid.numbers)) != grid.slack) - 1
    free[grid.slack] = -1
    i, j = free[grid.source], free[grid.target]
    branches, size = np.arange(len(i)), len(free) - 1
    rows, columns, branch = np.r_[i, j, i, j], np.r_[i, j, j, i], np.tile(branches, 4)
    signs = np.repeat([1.0, 1.0, -1.0, -1.0], len(i))
    kept = (rows >= 0) & (columns >= 0)
    pattern, entry = Pattern.of(rows[kept], columns[kept], size)
    return pattern, csr_array(coo_array((signs[kept], (entry, branch[kept])), (len(pattern.rows), len(branches))))


def dc_angles(grid: PowerGrid, injection: np.ndarray, status: np.ndarray, loss_passes: int = 0) -> np.ndarray:
    """Return the angles of the DC load flow, in rad, shape (n, buses), zero at the slack.

    Σ_j b_ij (θ_i - θ_j - φ_ij) = P_i - losses,  b = x / ((r² + x²) tap)

    Args:
        grid: the arrays.
        injection: P at each bus, conductance to earth taken off, in p.u., shape (n, buses).
        status: of the branches, shape (n, branches).
        loss_passes: how often losses are estimated, as r f² from the flows f before, half at each end.
    """
    pattern, linear = susceptances(grid)
    susceptance = status * np.imag(-1 / grid.impedance) / abs(grid.tap)
    incidence = _incidence(grid)
    shift = np.angle(grid.tap)
    values = (linear @ susceptance.T).T
    free = np.arange(len(grid.numbers)) != grid.slack
    angles, losses = np.zeros_like(injection), np.zeros_like(status)
    for _ in range(loss_passes + 1):
        balance = injection + (incidence.T @ (susceptance * shift).T).T
        balance -= (abs(incidence).T @ losses.T).T / 2
        angles[:, free] = solve_blocks(pattern, values, balance[:, free])
        losses = np.real(grid.impedance) * (susceptance * ((incidence @ angles.T).T - shift)) ** 2
    return angles


def _incidence(grid: PowerGrid) -> csr_array:
    """Return +1 at each branch's source, -1 at its target, shape (branches, buses)."""
    branches = np.arange(len(grid.source))
    entries = np.r_[np.ones(len(branches)), -np.ones(len(branches))]
    places = np.r_[branches, branches], np.r_[grid.source, grid.target]
    return csr_array((entries, places), (len(branches), len(grid.numbers)))
