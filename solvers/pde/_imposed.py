"""Conditions that are built into a network instead of being trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import sympy
import torch
from torch import Tensor, nn

from sciml.pde.conditions import Periodic
from sciml.pde.domains import Box, Faces
from sciml.pde.expressions import Abs, Sign
from sciml.pde.fields import symbol
from sciml.views.residual import Residual, Term

SHARP = (Abs, Sign, sympy.Abs, sympy.sign)
Place = tuple[int, int, int]
"""An axis, one of its ends (0 or 1), and what is given there: 0 the value, 1 the derivative along the axis."""
TOLERANCE = 1e-10
"""Relative misfit up to which data agree where they meet."""


@dataclass
class FieldData:
    """What conditions give of one field on faces of a box.

    Args:
        box: the domain.
        repeats: the periodic axes, with the number of derivatives, the value first, that agree at both ends.
        given: an expression in the coordinates by place.
    """

    box: Box
    repeats: Mapping[int, int] = field(default_factory=dict)
    given: dict[Place, sympy.Expr] = field(default_factory=dict)

    def accepts(self, data: Mapping[Place, sympy.Expr]) -> bool:
        """Return whether further data contradict nothing, neither there nor where faces meet nor across periods.

        A derivative needs the value on its face.
        """
        together = {**self.given, **data}
        return (
            not data.keys() & self.given.keys()
            and all((axis, end, 0) in together and axis not in self.repeats for axis, end, _ in data)
            and all(self._meet(a, f, b, g) for a, f in data.items() for b, g in together.items() if a[0] != b[0])
            and all(self._repeats(a, f) for a, f in data.items())
        )

    def _meet(self, a: Place, f: sympy.Expr, b: Place, g: sympy.Expr) -> bool:
        first, second = f.diff(self._symbol(b[0]), b[2]), g.diff(self._symbol(a[0]), a[2])
        return self._agree(self._at(b, self._at(a, first)), self._at(b, self._at(a, second)))

    def _repeats(self, place: Place, f: sympy.Expr) -> bool:
        return all(
            self._agree(*(self._at((axis, end, 0), f.diff(self._symbol(axis), k)) for end in (0, 1)))
            for axis, depth in self.repeats.items()
            if axis != place[0]
            for k in range(depth)
        )

    def _agree(self, first: sympy.Expr, second: sympy.Expr) -> bool:
        low, high = self.box.bounds.T
        for unit in np.random.default_rng(0).random((8, len(low))):
            point = low + (high - low) * unit
            at = [(symbol(axis), sympy.Float(x)) for axis, x in zip(self.box.axes, point, strict=True)]
            one, other = (complex(e.subs(at)) for e in (first, second))
            if not abs(one - other) <= TOLERANCE * (1 + abs(one)):
                return False
        return True

    @property
    def extension(self) -> sympy.Expr:
        """A function on the whole box with these data: Hermite's interpolation along one axis after the other."""
        total: sympy.Expr = sympy.Integer(0)
        for axis, extent in enumerate(np.ptp(self.box.bounds, axis=1)):
            s, basis = self._unit(axis), sympy.Integer(1)
            for place in sorted(p for p in self.given if p[0] == axis):
                miss = self.given[place] - self._at(place, total.diff(self._symbol(axis), place[2]))
                total += miss * basis * sympy.Float(extent, 17) ** place[2]
                basis *= s - place[1]
        return total

    @property
    def distance(self) -> sympy.Expr:
        """A polynomial that vanishes on the faces as often as is given, and on nothing else, with greatest value 1."""
        product: sympy.Expr = sympy.Integer(1)
        for axis in range(len(self.box.axes)):
            s = self._unit(axis)
            low, high = (sum(p[:2] == (axis, end) for p in self.given) for end in (0, 1))
            greatest = sympy.Rational(low**low * high**high, (low + high) ** (low + high))
            product *= s**low * (1 - s) ** high / greatest
        return product

    def _symbol(self, axis: int) -> sympy.Symbol:
        return symbol(self.box.axes[axis])

    def _unit(self, axis: int) -> sympy.Expr:
        low, high = (sympy.Float(b, 17) for b in self.box.bounds[axis])
        return (self._symbol(axis) - low) / (high - low)

    def _at(self, place: Place, expression: sympy.Expr) -> sympy.Expr:
        return expression.subs(self._symbol(place[0]), sympy.Float(self.box.bounds[place[:2]], 17))


class Imposed(nn.Module):
    """A network that meets conditions on the faces of a box whatever its weights, ``u = G + D N``.

    G has the wanted values on the faces, and where they are given the derivatives; D vanishes there, twice where a
    derivative is given; N is the network.
    Source: I. Lagaris, A. Likas, D. Fotiadis, Artificial neural networks for solving ordinary and partial
    differential equations, IEEE Trans. Neural Networks 9 (1998), arXiv physics/9705023.

    Args:
        network: N, from coordinates to fields.
        data: for each field what is imposed on it.
    """

    def __init__(self, network: nn.Module, data: Sequence[FieldData]) -> None:
        super().__init__()
        self.network = network
        self.shapes = [(_function(v.box, v.extension), _function(v.box, v.distance)) if v.given else None for v in data]

    def forward(self, points: Tensor) -> Tensor:
        fields = self.network(points)
        columns = [points[:, i : i + 1] for i in range(points.shape[1])]
        parts = []
        for k, shape in enumerate(self.shapes):
            raw = fields[:, k : k + 1]
            parts.append(raw if shape is None else shape[1](*columns) * raw + shape[0](*columns))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def impose(problem: Residual, data: bool = True) -> tuple[list[FieldData], frozenset[str]]:
    """Return for each field the data to impose, and the names of the terms that need no training then.

    A term can be imposed where it reads ``c (u - g) = 0``, or after that ``c (∂u/∂a - g) = 0`` with a the axis that
    ends there, such as an initial velocity; c a number, g a function of the coordinates, on faces of a box; and
    where it contradicts none before it. Periodic terms hold by the network's embedding.

    Args:
        problem: what is to be solved.
        data: whether to impose more than what is periodic.
    """
    box, terms = problem.region, problem.terms
    periodic = [term for term in terms if isinstance(term.condition, Periodic)]
    names = {term.name for term in periodic}
    if not (data and isinstance(box, Box)):
        return [], frozenset(names)
    fields = [f.name for f in problem.fields]
    repeats = {axis: _depth(axis, periodic) for axis in map(box.index, problem.periodic_axes)}
    imposed = [FieldData(box, repeats) for _ in fields]
    found = [(term.name, *datum) for term in terms if (datum := _datum(term, fields))]
    for name, index, given in sorted(found, key=lambda each: max(place[2] for place in each[2])):
        if imposed[index].accepts(given):
            imposed[index].given |= given
            names.add(name)
    return imposed, frozenset(names)


def _depth(axis: int, periodic: Sequence[Term]) -> int:
    return 1 + max(d.order[axis] for term in periodic for d in term.relation.needs)


def _datum(term: Term, fields: Sequence[str]) -> tuple[int, dict[Place, sympy.Expr]] | None:
    """Return which field a term gives, and what, or None where it gives no value or derivative on faces."""
    relation, part = term.relation, term.part
    if not (isinstance(part, Faces) and part.faces and len(relation.needs) == 1):
        return None
    leaf = relation.needs[0]
    order = sum(leaf.order)
    factor = relation.partial(leaf).expression
    if order > 1 or any(leaf.order[axis] != order for axis, _ in part.faces) or not factor.is_number:
        return None
    value = sympy.expand(relation.leaves[leaf] - relation.expression / factor)
    if not value.free_symbols <= {symbol(a) for a in relation.axes}:
        return None
    if value.has(*SHARP):  # a kink would stay in G for all time, and residuals hold almost everywhere beside it
        return None
    at = {}
    for axis, end in part.faces:
        here = (symbol(part.box.axes[axis]), sympy.Float(part.box.bounds[axis, end], 17))
        at[axis, end, order] = value.subs(*here)
    return fields.index(leaf.field), at


def _function(box: Box, expression: sympy.Expr) -> Callable[..., Tensor]:
    names = [symbol(a) for a in box.axes]
    # sympy prints numbers with the digits they carry, and a double needs 17
    return sympy.lambdify(names, sympy.N(expression, 17), modules=torch)
