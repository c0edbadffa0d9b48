"""Least squares of cells that meet their neighbours alone: block QR, each cell eliminated onto its interfaces."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import linalg


class Orthogonal:
    """The QR factors of a matrix (rows, columns), Q by its reflectors; rows >= columns.

    Args:
        matrix: in Fortran order; overwritten.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        self.columns = matrix.shape[1]
        geqrf, self._ormqr = linalg.get_lapack_funcs(("geqrf", "ormqr"), (matrix,))
        self._factors, self._tau, _, _ = geqrf(matrix, lwork=64 * self.columns, overwrite_a=1)
        self.upper = np.triu(self._factors[: self.columns])

    def rotated(self, right: np.ndarray) -> np.ndarray:
        """Return the first rows of Q^T b, shape (columns,), for b of shape (rows,)."""
        whole, _, _ = self._ormqr("L", "T", self._factors, self._tau, right[:, None], lwork=64)
        return whole[: self.columns, 0]


class Chain:
    """``min Σ_c |A_c a_c - b_c|² + |L_c a_c - g_(c-1) - l_c|² + |R_c a_c - g_c - r_c|²`` over all a and g.

    What a cell leaves of its rows once a_c is eliminated is triangular in its two interfaces. From left to right
    such pairs are stacked and the interface between eliminated; on a circle the last one meets the first.

    Args:
        matrices: for each cell its rows (rows, unknowns), those of its left and right interface last; overwritten.
        size: the number of rows of an interface.
        circle: whether the last cell's right interface is the first one's left.
    """

    def __init__(self, matrices: Sequence[np.ndarray], size: int, circle: bool) -> None:
        self.size, self.circle = size, circle
        last = len(matrices) - 1
        self.cells = []
        for c, rows in enumerate(matrices):
            count, unknowns = rows.shape
            whole = np.zeros((count, unknowns + 2 * size), order="F")
            whole[:, :unknowns] = rows
            meets = (circle or c > 0, circle or c < last)
            for side in np.flatnonzero(meets):
                row, column = count - (2 - side) * size, unknowns + side * size
                whole[np.arange(row, row + size), np.arange(column, column + size)] = -1.0
            self.cells.append(Orthogonal(whole))
        self.links = []
        left = self.cells[0].upper[-2 * size :, -2 * size :]
        for cell in self.cells[1:]:
            right = cell.upper[-2 * size :, -2 * size :]
            whole = np.zeros((4 * size, 3 * size), order="F")
            whole[: 2 * size, :size], whole[: 2 * size, size : 2 * size] = left[:, size:], left[:, :size]
            whole[2 * size :, :size], whole[2 * size :, 2 * size :] = right[:, :size], right[:, size:]
            self.links.append(Orthogonal(whole))
            left = self.links[-1].upper[size:, size:]
        self.closing = left[:, :size] + left[:, size:]

    def solve(self, right: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return each cell's unknowns for right-hand sides of its rows."""
        size = self.size
        rotated = [cell.rotated(b) for cell, b in zip(self.cells, right, strict=True)]
        passed, between = rotated[0][-2 * size :], []
        for link, b in zip(self.links, rotated[1:], strict=True):
            whole = link.rotated(np.concatenate([passed, b[-2 * size :]]))
            between.append(whole[:size])
            passed = whole[size:]
        ends = np.zeros(size)
        if self.circle and size:
            found: Any = linalg.lstsq(self.closing, passed, lapack_driver="gelsy", check_finite=False)
            ends = found[0]
        traces = [ends]
        for link, b in zip(reversed(self.links), reversed(between), strict=True):
            known = np.concatenate([ends, traces[-1]])
            known = b - link.upper[:size, size:] @ known
            traces.append(linalg.solve_triangular(link.upper[:size, :size], known, check_finite=False))
        traces = [ends, *reversed(traces)]
        return [self._cell(c, b, traces[c : c + 2]) for c, b in enumerate(rotated)]

    def _cell(self, c: int, rotated: np.ndarray, traces: Sequence[np.ndarray]) -> np.ndarray:
        upper = self.cells[c].upper
        n = len(upper) - 2 * self.size
        known = rotated[:n] - upper[:n, n:] @ np.concatenate(traces)
        return linalg.solve_triangular(upper[:n, :n], known, check_finite=False)
