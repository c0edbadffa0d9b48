"""Problems whose fields are known where they are not smooth: the rest, which is, obeys a problem of its own."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import sympy

from sciml.errors import UserError
from sciml.pde.expressions import differentiate
from sciml.pde.fields import Derivative, Relation, symbol
from sciml.pde.tracing import trace
from sciml.solution import Solution
from sciml.views.residual import Residual, Term


class Split:
    """Fields as their singular part and a remainder, ``u = s + w``, with s the sum over all singularities.

    The remainder w obeys the problem's equations and conditions with s + w in place of u. It varies over ever shorter
    lengths r towards the singular points z_k: derivatives of order m are like ``w r^-m`` there, and in least squares
    the surface of a patch of length r outweighs its volume by 1 / r. So equations of order m are multiplied by the
    product of ``|z - z_k|^(m - 1/2)``: then they count at every length as values on faces do.

    Args:
        problem: with singularities, on axes of space alone.

    Raises:
        UserError: a singular part has another number of fields than the problem, or mentions them.
    """

    def __init__(self, problem: Residual) -> None:
        self.problem = problem
        self.axes, self.fields = problem.region.axes, tuple(f.name for f in problem.fields)
        parts = [trace(s.fields, (), self.axes) for s in problem.singularities()]
        for part in parts:
            if len(part) != len(self.fields):
                names = ", ".join(self.fields)
                raise UserError(f"{problem.name}: a singular part has {len(part)} expressions; expected {names}")
        self.parts: dict[str, Any] = {
            f: sympy.Add(*(part[k].expression for part in parts)) for k, f in enumerate(self.fields)
        }

    @cached_property
    def remainder(self) -> Residual:
        """The problem of the remainder."""
        twin = copy.copy(self.problem)
        vars(twin).pop("evaluation", None)
        vars(twin)["terms"] = tuple(self._of_remainder(t) for t in self.problem.terms)
        return twin

    def whole(self, solution: Solution) -> Solution:
        """Return the problem's solution for one of the remainder; infinite singular parts are left out."""
        singular = [Relation(self.parts[f], {}, self.axes) for f in self.fields]

        def function(points: np.ndarray) -> np.ndarray:
            values, arguments = solution(points), dict(zip(self.axes, points.T, strict=True))
            with np.errstate(divide="ignore", invalid="ignore"):
                known = np.stack([s({}, arguments) for s in singular], axis=1)
            values[:, : len(self.fields)] += np.where(np.isfinite(known), known, 0.0)
            return values

        return replace(solution, problem=self.problem, function=function)

    def _of_remainder(self, term: Term) -> Term:
        relation = term.relation
        sums = {leaf: leaf + self._derivative(d) for d, leaf in relation.leaves.items()}
        expression: Any = relation.expression.xreplace(sums)
        if term.condition is None:
            order = max(sum(d.order) for d in relation.needs)
            expression = self._distances ** sympy.Rational(max(2 * order - 1, 0), 2) * expression
        return replace(term, relation=replace(relation, expression=expression))

    def _derivative(self, derivative: Derivative) -> Any:
        expression = self.parts[derivative.field]
        for axis in derivative.along(self.axes):
            expression = differentiate(expression, symbol(axis))
        return expression

    @property
    def _distances(self) -> Any:
        places = [s.at for s in self.problem.singularities()]
        squares = (sum((symbol(a) - z) ** 2 for a, z in zip(self.axes, at, strict=True)) for at in places)
        return sympy.Mul(*map(sympy.sqrt, squares))


def split(problem: Residual, solve: Callable[[Residual], Solution]) -> Solution:
    """Return a problem's solution by a method for smooth fields, which solves for the rest of singular ones."""
    if not problem.singularities():
        return solve(problem)
    parts = Split(problem)
    return parts.whole(solve(parts.remainder))
