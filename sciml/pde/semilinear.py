"""Periodic problems in Fourier space: a stiff linear part, known exactly, and the rest by the grid."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self, cast

import numpy as np
import sympy
from scipy import fft

from sciml.pde.conditions import Initial, Periodic
from sciml.pde.domains import Box
from sciml.pde.fields import Derivative, Relation, space_axes, symbol
from sciml.views.residual import Residual

PAD = 3 / 2
"""Points per mode where the nonlinear part is no polynomial, so that aliasing cannot be excluded."""


class Semilinear:
    """``M u_t = A u + N(u, x, t)`` read from the equations: M constant and regular, A the linear part at u = 0.

    Raises:
        ValueError: the problem is not of that form on a periodic box; the message says why.
    """

    def __init__(self, problem: Residual) -> None:
        if not isinstance(problem.region, Box) or "t" not in problem.region.axes:
            raise ValueError("exponential integrators need a Box with time")
        self.box = problem.region
        self.axes, self.t = space_axes(self.box.axes), self.box.index("t")
        self.fields = tuple(f.name for f in problem.fields)
        if not self.axes or set(self.axes) != set(problem.periodic_axes):
            raise ValueError("exponential integrators need all space axes periodic")
        if any(not isinstance(t.condition, Initial | Periodic | None) for t in problem.terms):
            raise ValueError("exponential integrators need initial and periodic conditions alone")
        equations = [t.relation for t in problem.terms if t.condition is None]
        initial = [t.relation for t in problem.terms if isinstance(t.condition, Initial)]
        self.rate = self._constant(equations, [self._whole(f, 1) for f in self.fields])
        self.start = self._constant(initial, [self._whole(f, 0) for f in self.fields])
        self.linear, self.rest = self._split(equations)
        self.data = [_without(r, r.needs) for r in initial]

    def _whole(self, field: str, rate: int) -> Derivative:
        return Derivative(field, tuple(rate * (a == "t") for a in self.box.axes))

    def _constant(self, relations: Sequence[Relation], of: Sequence[Derivative]) -> np.ndarray:
        """Return the constant regular matrix by which relations depend on derivatives, on all others not at all.

        Raises:
            ValueError: there is none.
        """
        if len(relations) != len(of):
            raise ValueError(f"exponential integrators need as many relations as fields, got {len(relations)}")
        matrix = np.zeros((len(relations), len(of)))
        for i, relation in enumerate(relations):
            for d in relation.needs:
                if d in of:
                    partial = relation.partial(d).expression
                    if partial.free_symbols:
                        raise ValueError(f"{d.field} is multiplied by {partial}, no constant")
                    matrix[i, of.index(d)] = float(partial)
                elif d.order[self.t] or not of[0].order[self.t]:
                    raise ValueError("exponential integrators need first order in time and initial values alone")
        if np.linalg.matrix_rank(matrix) < len(of):
            raise ValueError("exponential integrators need the equations to be solvable for the rates")
        return matrix

    def _split(self, equations: Sequence[Relation]) -> tuple[dict[Derivative, np.ndarray], list[Relation]]:
        """Return by derivative a column of the linear part, shape (fields,), and what is left of each equation."""
        linear: dict[Derivative, np.ndarray] = {}
        rest = []
        for i, relation in enumerate(equations):
            at_zero = dict.fromkeys(relation.leaves.values(), sympy.S.Zero)
            left = relation.expression
            for d in relation.needs:
                slope: Any = relation.partial(d).expression.xreplace(at_zero)
                if not slope.free_symbols and slope.is_finite:
                    linear.setdefault(d, np.zeros(len(self.fields)))[i] = float(slope)
                    leaf = relation.leaves[d]
                    straight = relation.partial(d).expression == slope
                    left = left.subs(leaf, 0) if straight else left - slope * leaf
            rest.append(Relation(left, relation.leaves, relation.axes))
        stiff = max((sum(d.order) for d in linear), default=0)
        steepest = max((sum(d.order) for r in rest for d in r.needs), default=0)
        if steepest > 1 and steepest >= stiff:
            raise ValueError("exponential integrators need the highest derivatives to be linear, with constant factors")
        solved = {d: -np.linalg.solve(self.rate, column) for d, column in linear.items() if not d.order[self.t]}
        return solved, rest

    @cached_property
    def density(self) -> float:
        """Points per mode that keep products of polynomials free of aliasing."""
        if any(not r.expression.is_polynomial(*r.leaves.values()) for r in self.rest):
            return PAD
        somewhere = {symbol(a): sympy.Float(1 / math.e) for a in self.box.axes}
        forms = [sympy.N(r.expression.xreplace(somewhere)) for r in self.rest]
        degrees = [sympy.Poly(f, *r.leaves.values()).total_degree() for f, r in zip(forms, self.rest, strict=True)]
        return (max(1, *degrees) + 1) / 2


def _without(relation: Relation, needs: Sequence[Derivative]) -> Relation:
    """Return a relation with derivatives set to zero."""
    return Relation(relation.expression.subs({relation.leaves[d]: 0 for d in needs}), {}, relation.axes)


class Waves(ABC):
    """Plane waves on a periodic box, which the linear part takes to themselves, and points to form products at.

    Args:
        system: the problem.
        waves: by axis the angular wave number of every mode, in an array of the shape of the modes.
        nodes: by axis the coordinate of every point, in an array of the shape of the points.
    """

    def __init__(self, system: Semilinear, waves: Mapping[str, np.ndarray], nodes: Mapping[str, np.ndarray]) -> None:
        self.system, self.waves, self.nodes = system, waves, nodes
        self.shape = waves[system.axes[0]].shape
        needs = {d for r in system.rest for d in r.needs}
        self.needs = {d: (system.fields.index(d.field), self._factor(d, waves)) for d in needs}

    @abstractmethod
    def values(self, coefficients: np.ndarray) -> np.ndarray:
        """Return values at the points, one array or several in front."""

    @abstractmethod
    def coefficients(self, values: np.ndarray) -> np.ndarray:
        """Return the coefficients of values at the points."""

    @property
    @abstractmethod
    def count(self) -> int:
        """The number of coefficients of a field, taken as real numbers."""

    @abstractmethod
    def left_out(self, coefficients: np.ndarray, t: float) -> np.ndarray:
        """Return an estimate of what too few modes leave out of each field, shape (fields,)."""

    @abstractmethod
    def finer(self, coefficients: np.ndarray, t: float) -> Self:
        """Return more modes for a solution that these leave too much of."""

    @abstractmethod
    def adopt(self, coefficients: np.ndarray) -> np.ndarray:
        """Return coefficients of no more modes on these."""

    def _factor(self, derivative: Derivative, waves: Mapping[str, np.ndarray]) -> np.ndarray:
        factor = np.ones(waves[self.system.axes[0]].shape, dtype=complex)
        for axis, times in zip(self.system.box.axes, derivative.order, strict=True):
            if axis != "t":
                factor = factor * (1j * waves[axis]) ** times
        return factor

    def linear(self, waves: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the linear part of modes by their wave numbers, shape (fields, fields, *modes)."""
        n, shape = len(self.system.fields), waves[self.system.axes[0]].shape
        operator = np.zeros((n, n, *shape), dtype=complex)
        for d, column in self.system.linear.items():
            turned = column.reshape(-1, *[1] * len(shape)) * self._factor(d, waves)
            operator[:, self.system.fields.index(d.field)] += turned
        return operator

    @cached_property
    def operator(self) -> np.ndarray:
        """The linear part of each mode, shape (fields, fields, *modes)."""
        return self.linear(self.waves)

    @cached_property
    def coupled(self) -> bool:
        """Whether the linear part couples the fields."""
        return any(self.operator[i, j].any() for i, j in np.ndindex(self.operator.shape[:2]) if i != j)

    def data(self, nodes: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the initial values of the fields at points."""
        t = np.full(nodes[self.system.axes[0]].shape, self.system.box.bounds[self.system.t, 0])
        known = np.stack([r({}, {**nodes, "t": t}) for r in self.system.data])
        return -_solve(self.system.start, known)

    def initial(self) -> np.ndarray:
        """Return the coefficients at the start."""
        return self.coefficients(self.data(self.nodes))

    def rates(self, coefficients: np.ndarray, t: float, nodes: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the rates that the linear part leaves, by what the fields are at the points, taken to be ``nodes``."""
        needs = list(self.needs)
        found = (
            self.values(np.stack([coefficients[self.needs[d][0]] * self.needs[d][1] for d in needs])) if needs else ()
        )
        values = dict(zip(needs, found, strict=True))
        arguments = {**nodes, "t": np.broadcast_to(t, nodes[self.system.axes[0]].shape)}
        rest = np.stack([r(values, arguments) for r in self.system.rest])
        return -_solve(self.system.rate, rest)

    def sizes(self, coefficients: np.ndarray) -> np.ndarray:
        """Return the greatest value of each field at the points."""
        return np.abs(self.values(coefficients)).reshape(len(coefficients), -1).max(axis=1)

    def nonlinear(self, coefficients: np.ndarray, t: float) -> np.ndarray:
        """Return the modes of the rates that the linear part leaves."""
        return self.coefficients(self.rates(coefficients, t, self.nodes))


class Grid(Waves):
    """The Fourier modes up to ``modes`` along each axis, and the padded grid on which products are formed.

    Coefficients have shape (fields, 2 m + 1, ..., 2 m + 1, m + 1), of real fields, as ``scipy.fft.rfftn``
    orders them and divided by the number of points.

    Args:
        system: the problem.
        modes: m, the highest wave number in units of one per period.
    """

    def __init__(self, system: Semilinear, modes: int) -> None:
        self.modes = modes
        d = len(system.axes)
        self.points = cast(int, fft.next_fast_len(int(np.ceil(system.density * (2 * modes + 1))), real=True))
        signed = np.r_[0 : modes + 1, -modes:0]
        numbers = self.numbers = [signed] * (d - 1) + [np.arange(modes + 1)]
        self.places = np.ix_(*[n % self.points for n in numbers])
        self.padded = (*[self.points] * (d - 1), self.points // 2 + 1)
        bounds = [system.box.bounds[system.box.index(a)] for a in system.axes]
        waves = [2 * np.pi / (b - a) * n for (a, b), n in zip(bounds, numbers, strict=True)]
        nodes = [a + (b - a) * np.arange(self.points) / self.points for a, b in bounds]
        super().__init__(
            system, *(dict(zip(system.axes, np.meshgrid(*g, indexing="ij"), strict=True)) for g in (waves, nodes))
        )

    @property
    def count(self) -> int:
        return (2 * self.modes + 1) ** len(self.shape)

    @cached_property
    def outer(self) -> np.ndarray:
        """Which modes are in the outer eighth along some axis."""
        return np.any([np.abs(n) > 7 * self.modes / 8 for n in np.meshgrid(*self.numbers, indexing="ij")], axis=0)

    def left_out(self, coefficients: np.ndarray, t: float) -> np.ndarray:
        """Return the greatest value of the modes in the outer eighth along some axis."""
        return self.sizes(np.where(self.outer, coefficients, 0))

    def finer(self, coefficients: np.ndarray, t: float) -> Self:
        """Return twice the modes along each axis."""
        return type(self)(self.system, 2 * self.modes)

    def adopt(self, coefficients: np.ndarray) -> np.ndarray:
        """Return coefficients of a grid of no more modes on this one."""
        d = len(self.shape)
        fewer = coefficients.shape[-1] - 1
        whole = np.zeros((*coefficients.shape[:-d], *self.shape), dtype=complex)
        signed = np.r_[0 : fewer + 1, -fewer:0]
        whole[(..., *np.ix_(*[signed] * (d - 1), np.arange(fewer + 1)))] = coefficients
        return whole

    def nodal(self, coefficients: np.ndarray) -> np.ndarray:
        """Return values at as many points as modes, 2 m + 1 along each axis."""
        d = len(self.shape)
        return np.asarray(fft.irfftn(coefficients, [2 * self.modes + 1] * d, axes=range(-d, 0), norm="forward"))

    def values(self, coefficients: np.ndarray) -> np.ndarray:
        """Return values on the padded grid, one array or several in front."""
        d = len(self.shape)
        padded = np.zeros((*coefficients.shape[:-d], *self.padded), dtype=complex)
        padded[(..., *self.places)] = coefficients
        axes = range(-d, 0)
        return np.asarray(fft.irfftn(padded, [self.points] * d, axes=axes, norm="forward"))

    def coefficients(self, values: np.ndarray) -> np.ndarray:
        """Return the modes of values on the padded grid."""
        modes = np.asarray(fft.rfftn(values, axes=range(-len(self.shape), 0), norm="forward"))
        return modes[(..., *self.places)]


def _solve(matrix: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.tensordot(np.linalg.inv(matrix), values, 1)
