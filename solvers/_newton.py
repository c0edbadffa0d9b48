"""Linear and nonlinear systems of collocation: direct factorisations and Newton's method."""

from collections.abc import Callable

import numpy as np
from scipy import linalg
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

from sciml.errors import SolveError

DENSE = 0.2
"""From this share of non-zeros on, LAPACK is faster than a sparse factorisation."""
STEPS = 50


class Factor:
    """A factorised square matrix; called, it solves for right-hand sides of shape (n,).

    Raises:
        SolveError: the matrix is singular.
    """

    def __init__(self, matrix: csc_array) -> None:
        n = matrix.shape[0]
        if matrix.nnz > DENSE * n * n or n < 32:
            dense = matrix.toarray()
            if not np.isfinite(dense).all():
                raise SolveError("the linearisation is not finite")
            getrf, getrs, gecon = linalg.get_lapack_funcs(("getrf", "getrs", "gecon"), (dense,))
            lu, pivots, _ = getrf(dense)
            if gecon(lu, np.abs(dense).sum(axis=0).max())[0] < 1e-17:
                raise SolveError("the linearised system is singular: the conditions do not fix a solution")
            self._solve = lambda b: getrs(lu, pivots, b)[0]
        else:
            try:
                self._solve = splu(matrix).solve
            except RuntimeError as error:
                raise SolveError(f"the linearised system is singular ({error}): the conditions do not fix a solution") from None

    def __call__(self, right: np.ndarray) -> np.ndarray:
        return self._solve(right)


def least_squares(matrix: csc_array, right: np.ndarray) -> np.ndarray:
    """Return the shortest vector among those that minimise the residual, by a complete orthogonal factorisation."""
    return linalg.lstsq(matrix.toarray(), right, lapack_driver="gelsy", cond=1e-14)[0]


def solve_linear(matrix: csc_array, right: np.ndarray) -> np.ndarray:
    """Return the solution of a square system, or that of least squares where it is not square or singular."""
    if matrix.shape[0] == matrix.shape[1]:
        try:
            return Factor(matrix)(right)
        except SolveError:
            pass
    return least_squares(matrix, right)


def newton(
    residual: Callable[[np.ndarray], np.ndarray],
    jacobian: Callable[[np.ndarray], csc_array],
    start: np.ndarray,
    tolerance: float,
) -> tuple[np.ndarray, list[float]]:
    """Return a zero of the residual and the relative size of each Newton step, halving steps that do not descend.

    Raises:
        SolveError: no descent, or too many steps.
    """
    y, value, sizes = start, residual(start), []
    for _ in range(STEPS):
        if not np.isfinite(value).all():
            raise SolveError("the residual is not finite at the start of a Newton step")
        step = solve_linear(jacobian(y), value)
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
