"""Gauss-Newton for the coefficients of random features."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import linalg

from sciml.errors import SolveError
from sciml.pde.fields import Derivative

from ._features import Features, Order
from ._rfm_system import Expansion, Group, Statement, System, Values, combined

RIDGE = 1e-15
"""Relative to columns of length 1."""
SQUARED_RIDGE = 3e-14
"""On the diagonal of normal equations, whose rounding it exceeds."""
MEASURED = 1e-2
"""The weight of measurements, which may be noisy, beside equations and conditions, which hold exactly."""
SETTLED = 1e-6
"""Steps this small, relative to the data, that do not get much smaller have met rounding."""
STILL = 0.05
"""The smallest step of note beside the residual, where the tolerance is loose."""
STEPS = 15
SMALLEST = 1 / 64
"""The shortest share of a Newton step that is tried."""


class GaussNewton:
    """Minimises the weighted residuals of a system at given points over the span of given features.

    Rows of one term are divided by their root mean square norm, columns by their norm; measurements count less, so
    that their noise does not bend the equations.

    Args:
        system: the problem.
        groups: where its statements are to hold.
        features: what the fields are made of.
        loose: solve normal equations, several times faster than QR and half as many digits, and stop where steps
            change little beside the residual that remains.
        window: a step may raise the residual, unless it exceeds those before the last so many steps.
            Source: L. Grippo, F. Lampariello, S. Lucidi, A nonmonotone line search technique for Newton's method,
            SIAM J. Numer. Anal. 23 (1986), doi:10.1137/0723046.
    """

    def __init__(
        self, system: System, groups: Sequence[Group], features: Features, loose: bool = False, window: int = 1
    ) -> None:
        self.system, self.groups, self.features, self.window = system, groups, features, window
        self._least_squares, self._still = (normal_equations, STILL) if loose else (least_squares, 0.0)
        self.matrices = [features.matrices(g.coordinates, g.orders) for g in groups]
        self.size = len(features) * len(system.fields)

    def run(self, start: Expansion | None, steps: int = STEPS) -> tuple[Expansion, int]:
        """Return the solution and the number of steps.

        Args:
            start: fields to linearise about at first, of any features; None: zero, and the guesses.
            steps: the most steps.

        Raises:
            SolveError: a residual is not finite.
        """
        unknowns = self.system.guesses if start is None else start.unknowns
        values = [self._zero(g) if start is None else g.values(start, self.system.fields) for g in self.groups]
        jacobian, right, weights = self.linearise(values, unknowns, whole=True)
        y = np.concatenate([np.zeros(self.size), unknowns])
        y += self._least_squares(jacobian, right)
        if self.system.is_linear:
            return self._expansion(y), 1
        taken, gain, floor = 1, np.inf, SETTLED * float(np.linalg.norm(right))
        norms: list[float] = []
        while taken < steps:
            jacobian, right, weights = self.linearise(self._values(y), y[self.size :], whole=False)
            step = self._least_squares(jacobian, right)
            norms.append(float(np.linalg.norm(right)))
            share = self._share(y, step, weights, max(norms[-self.window :]))
            y, taken = y + share * step, taken + 1
            before, gain = gain, float(np.linalg.norm(jacobian @ step))
            if share == 0 or (gain < floor and gain > 0.5 * before) or gain < self._still * norms[-1]:
                break
        return self._expansion(y), taken

    def deviations(self, expansion: Expansion) -> np.ndarray:
        """Return the standard deviations of the numbers that are sought, shape (unknowns,).

        They are ``sqrt(sum_i P_i^2 s_i^2)``, with P the rows of the Jacobian's pseudo-inverse that belong to the
        numbers, and s^2 the mean square residual of the term of row i.
        """
        if not len(expansion.unknowns):
            return np.zeros(0)
        values = [g.values(expansion, self.system.fields) for g in self.groups]
        jacobian, right, _ = self.linearise(values, expansion.unknowns, whole=False)
        fields, numbers = jacobian[:, : self.size], jacobian[:, self.size :]
        explained = np.stack([fields @ least_squares(fields, column) for column in numbers.T], axis=1)
        inverse = np.linalg.pinv(numbers - explained)
        counts = [len(g.coordinates) for g in self.groups for _ in g.statements]
        blocks = np.split(right, np.cumsum(counts)[:-1])
        squares = np.concatenate([np.full(len(b), np.mean(b * b)) for b in blocks])
        return np.sqrt(inverse**2 @ squares)

    def linearise(
        self, values: Sequence[Values], unknowns: np.ndarray, whole: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the weighted Jacobian (rows, columns), minus the weighted residual (rows,), and the weights.

        Args:
            values: the derivatives of the fields, for each group.
            unknowns: the numbers that are sought.
            whole: let the right-hand side be such that fields are solved for, not their changes.
        """
        blocks, rights, weights = [], [], []
        for group, matrices, at in zip(self.groups, self.matrices, values, strict=True):
            arguments = self.system.numbers(group, unknowns)
            for s in group.statements:
                slopes = {d: p(at, arguments) for d, p in s.partials.items()}
                right = -s.relation(at, arguments)
                if whole:
                    right = right + sum(slopes[d] * at[d] for d in slopes)
                block = self._block(slopes, matrices, s, at, arguments)
                norm = np.sqrt(np.mean(np.sum(block[:, : self.size] ** 2, axis=1)))
                weight = (MEASURED if s.observed else 1.0) / (norm or 1.0)
                blocks.append(weight * block)
                rights.append(weight * right)
                weights.append(np.full(len(right), weight))
        jacobian, right = np.concatenate(blocks), np.concatenate(rights)
        if not (np.isfinite(right).all() and np.isfinite(jacobian).all()):
            raise SolveError("the residual or its linearisation is not finite")
        return jacobian, right, np.concatenate(weights)

    def _block(
        self,
        slopes: Values,
        matrices: Mapping[Order, np.ndarray],
        statement: Statement,
        values: Values,
        arguments: Mapping[str, np.ndarray],
    ) -> np.ndarray:
        n = len(next(iter(arguments.values())))
        count = len(self.features)
        block = np.zeros((n, self.size + len(statement.sensitivities)))
        for d, slope in slopes.items():
            k = self.system.fields[d.field]
            block[:, k * count : (k + 1) * count] += slope[:, None] * matrices[d.order]
        for k, sensitivity in enumerate(statement.sensitivities):
            if sensitivity.expression != 0:
                block[:, self.size + k] = sensitivity(values, arguments)
        return block

    def _share(self, y: np.ndarray, step: np.ndarray, weights: np.ndarray, norm: float) -> float:
        """Return the greatest share of a step that lowers the residual, 0 where none does."""
        share = 1.0
        while share >= SMALLEST:
            residual = self._residual(y + share * step)
            if np.isfinite(residual).all() and np.linalg.norm(weights * residual) < norm:
                return share
            share /= 2
        return 0.0

    def _residual(self, y: np.ndarray) -> np.ndarray:
        parts = []
        for group, values in zip(self.groups, self._values(y), strict=True):
            arguments = self.system.numbers(group, y[self.size :])
            parts += [s.relation(values, arguments) for s in group.statements]
        return np.concatenate(parts)

    def _values(self, y: np.ndarray) -> list[dict[Derivative, np.ndarray]]:
        coefficients = self._expansion(y).coefficients
        return [
            combined(g.needs, m, coefficients, self.system.fields)
            for g, m in zip(self.groups, self.matrices, strict=True)
        ]

    def _expansion(self, y: np.ndarray) -> Expansion:
        coefficients = y[: self.size].reshape(len(self.system.fields), len(self.features)).T
        return Expansion(self.features, coefficients, y[self.size :])

    def _zero(self, group: Group) -> dict[Derivative, np.ndarray]:
        return {d: np.zeros(len(group.coordinates)) for d in group.needs}


def least_squares(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the least squares solution in scaled columns, with a ridge that rounding could not tell from none.

    QR is as accurate as a rank-revealing factorisation and up to twice as fast; the ridge keeps it from breaking
    down where directions are free.
    """
    norms = _lengths(matrix)
    columns = len(norms)
    ridged = np.zeros((len(matrix) + columns, columns), order="F")
    np.divide(matrix, norms, out=ridged[: len(matrix)])
    np.fill_diagonal(ridged[len(matrix) :], RIDGE)
    whole = np.concatenate([right, np.zeros(columns)])
    factors: Any = linalg.qr_multiply(ridged, whole, overwrite_a=True)
    rotated, triangle = factors
    return linalg.solve_triangular(triangle, rotated, check_finite=False) / norms


def normal_equations(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the least squares solution in scaled columns by Cholesky's factors of the normal equations."""
    norms = _lengths(matrix)
    scaled = matrix / norms
    normal = scaled.T @ scaled
    normal[np.diag_indices_from(normal)] += SQUARED_RIDGE
    factor = linalg.cho_factor(normal, overwrite_a=True, check_finite=False)
    solution = linalg.cho_solve(factor, scaled.T @ right)
    return (solution + linalg.cho_solve(factor, scaled.T @ (right - scaled @ solution))) / norms


def _lengths(matrix: np.ndarray) -> np.ndarray:
    """Return the lengths of the columns, one for those that are zero."""
    norms = np.linalg.norm(matrix, axis=0)
    norms[norms == 0] = 1.0
    return norms
