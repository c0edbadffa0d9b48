"""Traced relations as a weak form: second derivatives by parts, everything else as it stands."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import sympy
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from sciml.pde.conditions import Observed, Periodic
from sciml.pde.domains import Box, Domain, Part
from sciml.pde.expressions import differentiate
from sciml.pde.fields import Derivative, Relation, symbol
from sciml.pde.geometry import Shape
from sciml.views.residual import Residual, Term

from ._fem_mesh import holds

SAMPLE = 1024
"""Points of a side at which it is looked for conditions."""
VALUE, SLOPES = (0, 0), ((1, 0), (0, 1))
CURVATURES = {(2, 0): (0, 0), (1, 1): (0, 1), (0, 2): (1, 1)}


@dataclass(frozen=True)
class Equation:
    """``source + div flux = 0``, tested with the functions of one field: ``(source, v) - (flux, grad v) + boundary``.

    Args:
        field: whose test functions.
        source: everything but the divergence.
        flux: both components.
    """

    field: str
    source: Relation
    flux: tuple[Relation, Relation]

    @cached_property
    def rows(self) -> tuple[Relation, Relation, Relation]:
        """What multiplies the test function and its two slopes."""
        x, y = (Relation(-f.expression, f.leaves, f.axes) for f in self.flux)
        return self.source, x, y


@dataclass(frozen=True)
class Essential:
    """A boundary condition that gives a field its value."""

    field: str
    relation: Relation
    part: Part
    name: str


@dataclass(frozen=True)
class Natural:
    """A boundary condition that gives the flux of a field, a Neumann or Robin condition."""

    field: str
    relation: Relation
    part: Part
    name: str


@dataclass(frozen=True)
class Pin:
    """The value at one point of a field that the rest leaves free up to a constant."""

    field: str
    point: np.ndarray
    value: float


class Form:
    """The weak form of a steady problem in two dimensions.

    The relation of each equation must be linear in second derivatives, with coefficients of coordinates and fields.
    A field without second derivatives takes elements of one degree less, as a pressure does.

    Raises:
        ValueError: the problem has no such form; the message says why.
    """

    def __init__(self, problem: Residual) -> None:
        self.region, self.axes = problem.region, problem.region.axes
        self.fields = tuple(f.name for f in problem.fields)
        _require_setting(problem)
        self.equations = self._equations([t.relation for t in problem.terms if t.condition is None])
        self.second = frozenset(e.field for e in self.equations if any(f.needs for f in e.flux))
        self.essential: list[Essential] = []
        self.natural: list[Natural] = []
        self.pins: list[Pin] = []
        for term in problem.terms:
            if isinstance(term.condition, Observed):
                self.pins.append(self._pin(term.condition, problem.terms))
            elif term.condition is not None:
                self._condition(term)
        self._require_saddle()
        self._require_levels(problem.terms)
        self._require_covered()

    @cached_property
    def is_linear(self) -> bool:
        parts = [r for e in self.equations for r in e.rows] + [n.relation for n in self.natural]
        return all(r.is_linear for r in parts)

    def _equations(self, relations: Sequence[Relation]) -> list[Equation]:
        if len(relations) != len(self.fields):
            raise ValueError(f"{len(relations)} equations for {len(self.fields)} fields")
        split = [dict(_split(r, self.fields)) for r in relations]
        table = csr_array([[int(f in s) for f in self.fields] for s in split])
        match = maximum_bipartite_matching(table, perm_type="column")
        for row, found in enumerate(match):
            if found < 0 and split[row]:
                raise ValueError("more equations of second order than fields with second derivatives")
        left = iter([f for k, f in enumerate(self.fields) if k not in match])
        owners = [self.fields[m] if m >= 0 else next(left) for m in match]
        return [_equation(r, owner, s) for r, owner, s in zip(relations, owners, split, strict=True)]

    def _condition(self, term: Term) -> None:
        relation = term.relation
        sloped = {d.field for d in relation.needs if d.order != VALUE}
        if not sloped:
            if len(relation.needs) != 1 or not relation.is_linear:
                raise ValueError(f"the condition {term.name} is no value of one field")
            self.essential.append(Essential(relation.needs[0].field, relation, term.part, term.name))
            return
        if len(sloped) > 1 or not sloped <= self.second or any(sum(d.order) > 1 for d in relation.needs):
            raise ValueError(f"the condition {term.name} is neither a value nor the flux of one field")
        self.natural.append(Natural(sloped.pop(), relation, term.part, term.name))

    def _pin(self, condition: Observed, terms: Sequence[Term]) -> Pin:
        if len(condition.points) > 1 or not self._level(condition.field, terms):
            raise ValueError("observed data on top of the equations leave no square system")
        return Pin(condition.field, np.asarray(condition.points[0]), float(condition.values[0]))

    def _level(self, field: str, terms: Sequence[Term]) -> bool:
        """Return whether a constant can be added to a field."""
        value = Derivative(field, VALUE)
        return not any(value in t.relation.needs for t in terms if not isinstance(t.condition, Observed))

    def _require_saddle(self) -> None:
        for equation in self.equations:
            own = equation.field
            if own not in self.second and any(d.field == own for d in equation.source.needs):
                raise ValueError(f"the equation for {own} has no second derivatives, which elements would not damp")

    def _require_levels(self, terms: Sequence[Term]) -> None:
        for field in self.fields:
            if self._level(field, terms) and field not in {p.field for p in self.pins}:
                raise ValueError(f"nothing fixes the constant of {field}; add Observed({field!r}, [point], [value])")

    def _require_covered(self) -> None:
        for field in (f for f in self.fields if f in self.second):
            parts = [c.part for c in (*self.essential, *self.natural) if c.field == field]
            for name, points in _sides(self.region):
                if not np.any([holds(part, points, self.axes) for part in parts], axis=0).all():
                    raise ValueError(f"{name} has no condition for {field}; add one, such as {field}.normal")


def _sides(region: Domain) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the sides of a box, or the boundary of a shape, each with points on it, shape (2, n)."""
    parts = {"a part of the boundary": region.boundary(None)}
    if isinstance(region, Box):
        ends = [(a, float(value)) for a, bounds in zip(region.axes, region.bounds, strict=True) for value in bounds]
        parts = {f"a part of {a} = {value:g}": region.boundary({a: value}) for a, value in ends}
    for name, part in parts.items():
        points = part.sample(SAMPLE, torch.Generator().manual_seed(0), "sobol", torch.float64)
        yield name, points.coordinates.numpy().T


def _require_setting(problem: Residual) -> None:
    region = problem.region
    if not isinstance(region, (Box, Shape)) or len(region.axes) != 2 or "t" in region.axes:
        raise ValueError(f"it needs two axes of space, the axes are {', '.join(region.axes)}")
    if problem.unknowns:
        raise ValueError(f"{', '.join(u.name for u in problem.unknowns)} is sought, which leaves no square system")
    for term in problem.terms:
        if isinstance(term.condition, Periodic):
            raise ValueError("it has no periodic elements")
        if any(sum(d.order) > 2 for d in term.relation.needs):
            raise ValueError(f"{term.name} has derivatives of third order or more")


def _split(relation: Relation, fields: Sequence[str]) -> Iterator[tuple[str, dict[tuple[int, int], sympy.Expr]]]:
    """Yield each field whose second derivatives the relation has, and their coefficients."""
    for field in fields:
        found = {}
        for d in relation.needs:
            if d.field == field and sum(d.order) == 2:
                coefficient = relation.partial(d)
                if any(sum(need.order) for need in coefficient.needs):
                    raise ValueError("an equation is not linear in second derivatives")
                found[d.order] = coefficient.expression
        if found:
            yield field, found


def _equation(relation: Relation, owner: str, second: dict[str, dict[tuple[int, int], sympy.Expr]]) -> Equation:
    """Return the divergence form: ``a u_xy = (a u_y / 2)_x + (a u_x / 2)_y - (a_x u_y + a_y u_x) / 2``."""
    leaves = dict(relation.leaves)
    for field in {d.field for d in leaves}:
        for order in (VALUE, *SLOPES):
            leaves.setdefault(Derivative(field, order), symbol(f"_{field}_{order[0]}{order[1]}"))
    source: Any = relation.expression.xreplace({leaf: sympy.S.Zero for d, leaf in leaves.items() if sum(d.order) == 2})
    flux: list[sympy.Expr] = [sympy.S.Zero, sympy.S.Zero]
    for field, coefficients in second.items():
        for order, a in coefficients.items():
            one, other = CURVATURES[order]
            for i, j in ((one, other), (other, one)):
                slope = leaves[Derivative(field, SLOPES[j])]
                flux[i] += a * slope / 2
                source -= _along(a, i, leaves, relation.axes) * slope / 2
    made = [Relation(e, leaves, relation.axes) for e in (source, *flux)]
    return Equation(owner, made[0], (made[1], made[2]))


def _along(a: sympy.Expr, axis: int, leaves: dict[Derivative, sympy.Symbol], axes: Sequence[str]) -> sympy.Expr:
    """Return the derivative of a coefficient of coordinates and fields along an axis."""
    chain = [
        differentiate(a, leaf) * leaves[Derivative(d.field, SLOPES[axis])]
        for d, leaf in leaves.items()
        if d.order == VALUE
    ]
    return sum(chain, differentiate(a, symbol(axes[axis])))
