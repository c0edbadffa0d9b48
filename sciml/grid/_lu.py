"""Sparse LU of many matrices of one pattern: what to multiply with what, worked out once for a grid."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csc_array, csr_array
from scipy.sparse.linalg import splu


class Tape(NamedTuple):
    """LU without pivoting, row by row, of a matrix of blocks that is symmetric in pattern.

    Rows and columns have one or two unknowns. A_ij - Σ_k L_ik U_kj, k < min(i, j), is U_ij for i <= j and
    L_ij D_j for i > j. Entries come row by row: below the diagonal, above it, on it; each has its numbers side by
    side, row-major, from its slot on.

    Args:
        size: unknowns of each row, shape (rows,), int32 like all that follow.
        start: first entry of each row, shape (rows + 1,).
        above: first entry above the diagonal, shape (rows,).
        column: of each entry, shape (entries,).
        slot: of each entry, and at last their number, shape (entries + 1,).
        diagonal: slot of each row's entry on the diagonal, shape (rows,).
        single: first product with L_ik of one column, for each entry, shape (entries + 1,).
        double: first product with L_ik of two columns, for each entry, shape (entries,).
        left: slots of L_ik, shape (products,).
        right: slots of U_kj, shape (products,).
    """

    size: np.ndarray
    start: np.ndarray
    above: np.ndarray
    column: np.ndarray
    slot: np.ndarray
    diagonal: np.ndarray
    single: np.ndarray
    double: np.ndarray
    left: np.ndarray
    right: np.ndarray


def ordered(pattern: csr_array) -> np.ndarray:
    """Return an order of elimination with little fill, by minimum degree, shape (rows,).

    Args:
        pattern: symmetric.
    """
    graph = csc_array(pattern, dtype=float, copy=True)
    graph.data[:] = -1.0
    graph.setdiag(np.diff(graph.indptr) + 1.0)  # dominates, so that no pivoting disturbs the order
    return np.argsort(
        splu(graph, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}).perm_c
    )


def tape(pattern: csr_array, size: np.ndarray) -> Tape:
    """Return the elimination of a matrix, in the order of its rows.

    Args:
        pattern: symmetric, shape (rows, rows).
        size: unknowns of each row, one or two, shape (rows,).
    """
    later = _filled(pattern)
    rows = len(later)
    earlier: list[list[int]] = [[] for _ in range(rows)]
    for k, columns in enumerate(later):
        for j in columns:
            earlier[j].append(k)
    place: dict[tuple[int, int], int] = {}
    column, start, above, slot, diagonal = [], [0], [], [0], []
    for i in range(rows):
        for j in (*earlier[i], *later[i], i):
            place[i, j] = slot[-1]
            column.append(j)
            slot.append(slot[-1] + size[i] * size[j])
        above.append(start[-1] + len(earlier[i]))
        start.append(len(column))
        diagonal.append(place[i, i])
    single, double, left, right = [0], [], [], []
    known = [set(k) for k in earlier]
    for i in range(rows):
        for j in column[start[i] : start[i + 1]]:
            shared = [k for k in earlier[i] if k < j and (j == i or k in known[j])]
            one, two = ([k for k in shared if size[k] == s] for s in (1, 2))
            left += [place[i, k] for k in one + two]
            right += [place[k, j] for k in one + two]
            double.append(single[-1] + len(one))
            single.append(len(left))
    parts = size, start, above, column, slot, diagonal, single, double, left, right
    return Tape(*(np.array(part, np.int32) for part in parts))


def _filled(pattern: csr_array) -> list[list[int]]:
    """Return the columns above the diagonal of each row of U, sorted."""
    later = [
        {int(j) for j in pattern.indices[pattern.indptr[i] : pattern.indptr[i + 1]] if j > i}
        for i in range(len(pattern.indptr) - 1)
    ]
    for columns in later:
        if columns:
            parent = min(columns)
            later[parent] |= columns - {parent}
    return [sorted(columns) for columns in later]
