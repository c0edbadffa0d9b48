"""Fields that the equations do not determine, and what measurements tell of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import sympy
import torch
from scipy import linalg

from sciml.errors import SolveError
from sciml.pde.collocation import Line, chebyshev, gauss, scaled
from sciml.pde.conditions import Observed
from sciml.pde.expressions import differentiate
from sciml.pde.fields import Derivative
from sciml.views.residual import Residual, Term, grid_points

from ._collocated import Rows, System
from ._newton import newton

LEVEL = 1e-3
"""The weight of a sought field's values beside that of its slopes; it fixes what nothing else does."""


def sought(problem: Residual) -> tuple[str, ...]:
    """Return the fields without measurements where there are more fields than equations."""
    equations = sum(t.condition is None for t in problem.terms)
    measured = {c.field for c in problem.conditions() if isinstance(c, Observed)}
    return tuple(f.name for f in problem.fields if f.name not in measured) if equations < len(problem.fields) else ()


class Sought:
    """Sought fields as polynomials that meet their own conditions: nodal values ``start + free @ z``.

    Args:
        problem: whose fields are sought.
        names: of the sought fields.
        degree: along each axis.
    """

    def __init__(self, problem: Residual, names: Sequence[str], degree: int) -> None:
        self.problem, self.names = problem, tuple(names)
        self.lines = tuple(chebyshev(low, high, degree + 1) for low, high in problem.region.bounds)
        self.leaves = {leaf: d for t in problem.terms for d, leaf in t.relation.leaves.items() if d.field in names}

    @cached_property
    def refusal(self) -> str | None:
        """Why the conditions on sought fields cannot be met, or None."""
        bad = next((t.name for t in self._own if not t.relation.is_linear), None)
        return f"the condition {bad} on a sought field is not linear" if bad else None

    @cached_property
    def _own(self) -> list[Term]:
        """The terms that mention nothing but sought fields."""
        return [t for t in self.problem.terms if all(d.field in self.names for d in t.relation.needs)]

    def matrix(self, derivative: Derivative, points: np.ndarray) -> np.ndarray:
        """Return the matrix (n, values) from nodal values of all sought fields to a derivative at points (n, axes)."""
        rows = products(self.lines, points, derivative.order)
        size = rows.shape[1]
        whole = np.zeros((len(points), size * len(self.names)))
        whole[:, size * self.names.index(derivative.field) :][:, :size] = rows
        return whole

    @cached_property
    def _conditions(self) -> tuple[np.ndarray, np.ndarray]:
        """The linear equations ``C values = g`` that the fields' own conditions state."""
        size = math.prod(len(line.nodes) for line in self.lines) * len(self.names)
        left, right = [np.zeros((0, size))], [np.zeros(0)]
        for term in self._own:
            drawn = term.part.sample(8 * size, torch.Generator().manual_seed(0), "grid", torch.float64)
            points = drawn.coordinates.numpy()
            arguments = {name: v.numpy() for name, v in drawn.arguments(term.relation.axes).items()}
            nothing = {d: np.zeros(len(points)) for d in term.relation.needs}
            right.append(-term.relation(nothing, arguments))
            parts = [term.relation.partial(d)(nothing, arguments)[:, None] * self.matrix(d, points) for d in nothing]
            left.append(np.sum(parts, axis=0))
        return np.concatenate(left), np.concatenate(right)

    @cached_property
    def free(self) -> np.ndarray:
        """A basis of the values that the conditions leave free, shape (values, k)."""
        return linalg.null_space(self._conditions[0], rcond=1e-10)

    @cached_property
    def start(self) -> np.ndarray:
        """The values that meet the conditions and differ least, and least abruptly, from one."""
        left, right = self._conditions
        ones = np.ones(left.shape[1])
        particular = np.linalg.lstsq(left, right - left @ ones, rcond=1e-10)[0]
        smoother = np.linalg.lstsq(self.rough @ self.free, self.rough @ particular, rcond=None)[0]
        return ones + particular - self.free @ smoother

    @cached_property
    def _quadrature(self) -> tuple[np.ndarray, np.ndarray]:
        """Gauss points and weights whose sum is one."""
        n = len(self.lines[0].nodes)
        points = [scaled(bounds, gauss(n)) for bounds in self.problem.region.bounds]
        weights = [np.polynomial.legendre.leggauss(n)[1] / 2] * len(points)
        names = [str(k) for k in range(len(points))]
        product = grid_points(dict(zip(names, weights, strict=True))).prod(axis=1)
        return grid_points(dict(zip(names, points, strict=True))), product

    @cached_property
    def rough(self) -> np.ndarray:
        """The matrix R for which ``|R values|²`` is the mean squared slope, by extents of the axes, and little more."""
        points, weights = self._quadrature
        extents, parts = np.ptp(self.problem.region.bounds, axis=1), []
        for name in self.names:
            for order in np.vstack([np.eye(len(extents), dtype=int), np.zeros(len(extents), dtype=int)]):
                scale = (extents**order).prod() if order.any() else LEVEL
                derivative = Derivative(name, tuple(int(k) for k in order))
                parts.append(np.sqrt(weights)[:, None] * scale * self.matrix(derivative, points))
        return np.concatenate(parts)

    def nodal(self, z: np.ndarray) -> np.ndarray:
        return self.start + self.free @ z

    def values(self, z: np.ndarray) -> dict[str, np.ndarray]:
        """Return the nodal values of each field on its grid."""
        shape = tuple(len(line.nodes) for line in self.lines)
        return {n: v.reshape(shape) for n, v in zip(self.names, np.split(self.nodal(z), len(self.names)), strict=True)}

    def rms(self, name: str, root: np.ndarray) -> float:
        """Return the root of a field's mean variance over the domain, for a root (values, k) of its covariance."""
        points, weights = self._quadrature
        spread = self.matrix(Derivative(name, (0,) * len(self.lines)), points) @ root
        return float(np.sqrt(weights @ (spread**2).sum(axis=1)))


class Model:
    """The measurements as a function of the sought fields.

    Args:
        problem: of measurements and equations.
        system: the equations collocated, with derivatives of sought fields as arguments.
        field: the sought fields.
    """

    def __init__(self, problem: Residual, system: System, field: Sought) -> None:
        self.system, self.field = system, field
        self.plain, self.solved = tuple(system.rows), np.zeros(system.size)
        data = [c for c in problem.conditions() if isinstance(c, Observed)]
        self.measured = np.concatenate([d.values for d in data])
        self.reading = np.concatenate([self._reading(d) for d in data])
        self.matrices = [self._matrices(rows) for rows in self.plain]

    def _reading(self, data: Observed) -> np.ndarray:
        block = [f for f, _ in self.system.blocks].index(data.field)
        rows = np.zeros((len(data.values), self.system.size))
        start, end = self.system.offsets[block : block + 2]
        rows[:, start:end] = products(self.system.lines[data.field], data.points, (0,) * data.points.shape[1])
        return rows

    def _matrices(self, rows: Rows) -> Mapping[sympy.Symbol, np.ndarray]:
        points = np.stack([rows.arguments[a] for a in self.system.layout.axes], axis=1)
        present = rows.relation.expression.free_symbols
        return {leaf: self.field.matrix(d, points) for leaf, d in self.field.leaves.items() if leaf in present}

    def _solve(self, z: np.ndarray) -> np.ndarray:
        """Return the nodal values of the state."""
        nodal = self.field.nodal(z)
        self.system.rows = [
            replace(r, arguments={**r.arguments, **{str(leaf): m @ nodal for leaf, m in matrices.items()}})
            for r, matrices in zip(self.plain, self.matrices, strict=True)
        ]
        moment = np.zeros(1)
        self.solved, _ = newton(
            lambda y: self.system.residual(y[:, None], y[:, None], moment)[:, 0],
            lambda y: self.system.linearised(y, y, 0.0)[0],
            self.solved,
            1e-12,
        )
        return self.solved

    def predict(self, z: np.ndarray) -> np.ndarray:
        """Return the predicted measurements, shape (m,)."""
        return self.reading @ self._solve(z)

    def state(self, z: np.ndarray) -> dict[str, np.ndarray]:
        """Return the nodal values of the fields that the equations determine."""
        return dict(self.system.function(self._solve(z)).values)

    def linearised(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return prediction minus measurement, shape (m,), and its derivative by z, shape (m, k).

        Raises:
            SolveError: the equations have no solution, or not one alone.
        """
        y = self._solve(z)
        change = np.zeros((self.system.count, len(self.field.start)))
        begin = 0
        for rows, matrices in zip(self.system.rows, self.matrices, strict=True):
            values, arguments = rows.values([y[:, None]], [y[:, None]]), rows.at(np.zeros(1))
            for leaf, matrix in matrices.items():
                partial = replace(rows.relation, expression=differentiate(rows.relation.expression, leaf))
                change[begin : begin + rows.count] += partial(values, arguments) * matrix
            begin += rows.count
        jacobian = self.system.linearised(y, y, 0.0)[0].toarray()
        try:
            response = np.linalg.solve(jacobian, -change @ self.field.free)
        except np.linalg.LinAlgError:
            raise SolveError("the equations do not determine the state for the field at hand") from None
        return self.reading @ y - self.measured, self.reading @ response


def products(lines: Sequence[Line], points: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Return the matrix (n, nodes) from values on a tensor grid to a derivative at points (n, axes)."""
    whole = np.ones((len(points), 1))
    for line, at, k in zip(lines, points.T, order, strict=True):
        whole = (whole[:, :, None] * line.matrix(at, k).toarray()[:, None]).reshape(len(points), -1)
    return whole
