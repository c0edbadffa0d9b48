"""The view of steady problems as a minimum of energy."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import sympy

from sciml.errors import UserError
from sciml.pde.fields import Derivative, Relation, symbol
from sciml.pde.tracing import trace
from sciml.problem import Problem


class Energy(Problem):
    """Fields minimise ``∫ energy`` over the domain among those that meet the conditions of the `Residual` beside it."""

    @abstractmethod
    def energy(self, *fields: Any, **coordinates: Any) -> Any:
        """Return the energy per volume, written like ``Residual.equations`` on fields and coordinates by name."""

    @cached_property
    def density(self) -> Relation:
        """The energy per volume, traced; its expression is no equation here."""
        densities = trace(self.energy, [v.name for v in self.outputs], [v.name for v in self.inputs])
        if len(densities) != 1:
            raise UserError(f"{self.name}: expected one energy, got {len(densities)}")
        return densities[0]


def variation(density: Relation, field: str) -> sympy.Expr:
    """Return the left side of the Euler-Lagrange equation of a field, ``Σ_a (-1)^|a| D^a (∂L/∂(D^a u))``.

    Fields are written as functions of the coordinates, as by `written_out`.
    """
    total: sympy.Expr = sympy.Integer(0)
    for need in density.needs:
        if need.field == field:
            part = written_out(density.partial(need))
            along = [(symbol(a), k) for a, k in zip(density.axes, need.order, strict=True) if k]
            total += (-1) ** sum(need.order) * (part.diff(*along) if along else part)
    return total


def flux(density: Relation, field: str) -> Mapping[str, sympy.Expr]:
    """Return for each axis ``∂L/∂(∂u/∂a)``, over the leaves of the density.

    Where a field is free on the boundary, the minimum has no flux across it: the natural condition.
    """
    axes = density.axes
    slopes = {a: Derivative(field, tuple(int(a == b) for b in axes)) for a in axes}
    return {a: density.partial(d).expression for a, d in slopes.items() if d in density.needs}


def written_out(relation: Relation) -> sympy.Expr:
    """Return an expression with functions of the coordinates and their derivatives in the place of its leaves."""
    coordinates = [symbol(a) for a in relation.axes]

    def function(need: Derivative) -> sympy.Expr:
        along = [(s, k) for s, k in zip(coordinates, need.order, strict=True) if k]
        whole = sympy.Function(need.field, real=True)(*coordinates)
        return whole.diff(*along) if along else whole

    expression: Any = relation.expression.xreplace({relation.leaves[need]: function(need) for need in relation.needs})
    return expression
