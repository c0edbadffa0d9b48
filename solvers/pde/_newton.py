"""Linear and nonlinear systems of collocation: direct factorisations and Newton's method."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import linalg
from scipy.sparse import block_array, csc_array, diags_array
from scipy.sparse.linalg import splu

from sciml.errors import SolveError

DENSE = 0.5
"""Where more than this share of the entries is not zero, LAPACK is faster than sparse factors."""
STEPS = 50
LEAST_SQUARES = 1500
"""The most unknowns for which least squares are worth their time."""
ROUNDING = 1e-14
"""A matrix with rows of size 1 is singular where its inverse is larger than one over this."""
SINGULAR = "the linearised system is singular: the conditions do not fix a solution"


class Factor:
    """A factorised square matrix; called, it solves for right-hand sides of shape (n,).

    Raises:
        SolveError: a pivot is zero.
    """

    def __init__(self, matrix: csc_array) -> None:
        n = len(matrix.indptr) - 1
        if not np.isfinite(matrix.data).all():
            raise SolveError("the linearisation is not finite")
        if matrix.nnz > DENSE * n**2:
            dense = matrix.toarray()
            getrf, getrs = linalg.get_lapack_funcs(("getrf", "getrs"), (dense,))
            lu, pivots, zero = getrf(dense)
            if zero:
                raise SolveError(SINGULAR)
            self._solve = lambda b, transposed: getrs(lu, pivots, b, trans=int(transposed))[0]
        else:
            try:
                lu = splu(matrix)
            except RuntimeError:
                raise SolveError(SINGULAR) from None
            self._solve = lambda b, transposed: lu.solve(b, "T" if transposed else "N")

    def __call__(self, right: np.ndarray, transposed: bool = False) -> np.ndarray:
        return self._solve(right, transposed)


def solve_linear(matrix: csc_array, right: np.ndarray) -> np.ndarray:
    """Return the solution of a linear system, the shortest where a direction is free (a pressure's constant).

    Raises:
        SolveError: more directions are free, or the system is not square, and it is too large for least
            squares.
    """
    columns = len(matrix.indptr) - 1
    size = np.maximum(abs(matrix).max(axis=1).toarray().ravel(), 1e-300)
    matrix, right = csc_array(diags_array(1 / size) @ matrix), right / size
    if len(right) == columns:
        try:
            factor = Factor(matrix)
            start = np.random.default_rng(0).standard_normal(len(right))
            if np.linalg.norm(factor(start)) < np.linalg.norm(start) / ROUNDING:
                return factor(right)
            solution = _deflated(matrix, factor, start, right)
            if np.isfinite(solution).all():
                return solution
        except SolveError:
            pass
    if columns > LEAST_SQUARES:
        raise SolveError(SINGULAR)
    found: Any = linalg.lstsq(matrix.toarray(), right, lapack_driver="gelsy", cond=1e-14)
    return found[0]


def _deflated(matrix: csc_array, factor: Factor, start: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve with the matrix bordered by its null vectors, which two steps of inverse iteration find."""
    null, left = start, start
    for _ in range(2):
        null, left = factor(null), factor(left, transposed=True)
        null, left = null / np.linalg.norm(null), left / np.linalg.norm(left)
    bordered = block_array([[matrix, csc_array(left[:, None])], [csc_array(null[None]), None]], format="csc")
    return Factor(csc_array(bordered))(np.append(right, 0.0))[:-1]


def newton(
    residual: Callable[[np.ndarray], np.ndarray],
    jacobian: Callable[[np.ndarray], csc_array],
    start: np.ndarray,
    tolerance: float,
    solve: Callable[[csc_array, np.ndarray], np.ndarray] = solve_linear,
) -> tuple[np.ndarray, list[float]]:
    """Return a zero of the residual and each step's relative size, halving steps until they descend.

    Raises:
        SolveError: no descent, or too many steps.
    """
    y, value, sizes = start, residual(start), []
    for _ in range(STEPS):
        if not np.isfinite(value).all():
            raise SolveError("the residual is not finite at the start of a Newton step")
        step = solve(jacobian(y), value)
        size = np.abs(step).max() / max(np.abs(y).max(), np.abs(step).max(), 1e-300)
        sizes.append(float(size))
        share = 1.0
        while share > 1e-4:
            trial = residual(y - share * step)
            if np.linalg.norm(trial) < (1 - 0.1 * share) * np.linalg.norm(value) or size < 1e-6:
                break
            share /= 2
        else:
            raise SolveError(f"Newton found no descent after {len(sizes)} steps (last relative step {size:.1e})")
        y, value = y - share * step, trial
        if share == 1 and (size < tolerance or not step.any()):
            return y, sizes
    raise SolveError(f"Newton did not converge in {STEPS} steps (last relative step {sizes[-1]:.1e})")
