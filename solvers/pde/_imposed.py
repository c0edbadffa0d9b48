"""Conditions that are built into a network instead of being trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import sympy
import torch
from torch import Tensor, nn

from sciml.pde.domains import Box, Faces
from sciml.pde.expressions import Abs, Sign
from sciml.pde.fields import Derivative, symbol
from sciml.views.residual import Residual, Term

SHARP = (Abs, Sign, sympy.Abs, sympy.sign)
Face = tuple[int, int]
"""An axis and one of its ends, 0 or 1."""


@dataclass
class FieldData:
    """The values that conditions give one field on faces of a box.

    Args:
        box: the domain.
        values: an expression in the coordinates by face.
    """

    box: Box
    values: dict[Face, sympy.Expr] = field(default_factory=dict)

    def accepts(self, values: dict[Face, sympy.Expr]) -> bool:
        """Return whether values on further faces contradict none, neither there nor where faces meet."""
        return not values.keys() & self.values.keys() and all(
            self._agree(a, f, b, g)
            for a, f in values.items()
            for b, g in {**self.values, **values}.items()
            if a[0] != b[0]
        )

    def _agree(self, a: Face, f: sympy.Expr, b: Face, g: sympy.Expr) -> bool:
        rng = np.random.default_rng(0)
        low, high = self.box.bounds.T
        for unit in rng.random((8, len(low))):
            point = low + (high - low) * unit
            point[a[0]], point[b[0]] = self.box.bounds[a], self.box.bounds[b]
            at = [(symbol(axis), sympy.Float(x)) for axis, x in zip(self.box.axes, point, strict=True)]
            first, second = (complex(e.subs(at)) for e in (f, g))
            if not abs(first - second) <= 1e-10 * (1 + abs(first)):
                return False
        return True

    @property
    def extension(self) -> sympy.Expr:
        """A function on the whole box with these values: interpolation along one axis after the other."""
        total: sympy.Expr = sympy.Integer(0)
        for axis in sorted({axis for axis, _ in self.values}):
            misses = {end: value - self._at((axis, end), total) for (i, end), value in self.values.items() if i == axis}
            s = self._unit(axis)
            total += misses[0] * (1 - s) + misses[1] * s if len(misses) == 2 else next(iter(misses.values()))
        return total

    @property
    def distance(self) -> sympy.Expr:
        """A polynomial that vanishes on the faces, and on nothing else, with greatest value 1."""
        product: sympy.Expr = sympy.Integer(1)
        for axis in sorted({axis for axis, _ in self.values}):
            s, ends = self._unit(axis), [end for i, end in self.values if i == axis]
            product *= 4 * s * (1 - s) if len(ends) == 2 else (1 - s if ends[0] else s)
        return product

    def _unit(self, axis: int) -> sympy.Expr:
        low, high = (sympy.Float(b, 17) for b in self.box.bounds[axis])
        return (symbol(self.box.axes[axis]) - low) / (high - low)

    def _at(self, face: Face, expression: sympy.Expr) -> sympy.Expr:
        return expression.subs(symbol(self.box.axes[face[0]]), sympy.Float(self.box.bounds[face], 17))


class Imposed(nn.Module):
    """A network that meets value conditions on the faces of a box whatever its weights, ``u = G + D N``.

    G has the wanted values on the faces, D vanishes there, N is the network.
    Source: I. Lagaris, A. Likas, D. Fotiadis, Artificial neural networks for solving ordinary and partial
    differential equations, IEEE Trans. Neural Networks 9 (1998), arXiv physics/9705023.

    Args:
        network: N, from coordinates to fields.
        values: for each field what is imposed on it.
    """

    def __init__(self, network: nn.Module, values: Sequence[FieldData]) -> None:
        super().__init__()
        self.network = network
        self.shapes = [
            (_function(v.box, v.extension), _function(v.box, v.distance)) if v.values else None for v in values
        ]

    def forward(self, points: Tensor) -> Tensor:
        fields = self.network(points)
        columns = [points[:, i : i + 1] for i in range(points.shape[1])]
        parts = []
        for k, shape in enumerate(self.shapes):
            raw = fields[:, k : k + 1]
            parts.append(raw if shape is None else shape[1](*columns) * raw + shape[0](*columns))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def impose(problem: Residual) -> tuple[list[FieldData], frozenset[str]]:
    """Return for each field the values to impose, and the names of the terms that need no training then.

    A term can be imposed where it reads ``c (u - g) = 0``, c a number, g a function of the coordinates,
    on faces of a box, and contradicts none before it.
    """
    box = problem.region
    if not isinstance(box, Box):
        return [], frozenset()
    data = [FieldData(box) for _ in problem.fields]
    names = set()
    for term in problem.terms:
        found = _value(term, [f.name for f in problem.fields])
        if found and data[found[0]].accepts(found[1]):
            data[found[0]].values |= found[1]
            names.add(term.name)
    return data, frozenset(names)


def _value(term: Term, fields: Sequence[str]) -> tuple[int, dict[Face, sympy.Expr]] | None:
    relation, part = term.relation, term.part
    if not (isinstance(part, Faces) and part.faces and len(relation.needs) == 1):
        return None
    leaf = relation.needs[0]
    factor = relation.partial(leaf).expression
    if leaf != Derivative(leaf.field, (0,) * len(relation.axes)) or not factor.is_number:
        return None
    value = sympy.expand(relation.leaves[leaf] - relation.expression / factor)
    if not value.free_symbols <= {symbol(a) for a in relation.axes}:
        return None
    if value.has(*SHARP):  # a kink would stay in G for all time, and residuals hold almost everywhere beside it
        return None
    at = {
        face: value.subs(symbol(part.box.axes[face[0]]), sympy.Float(part.box.bounds[face], 17)) for face in part.faces
    }
    return fields.index(leaf.field), at


def _function(box: Box, expression: sympy.Expr) -> Callable[..., Tensor]:
    names = [symbol(a) for a in box.axes]
    # sympy prints numbers with the digits they carry, and a double needs 17
    return sympy.lambdify(names, sympy.N(expression, 17), modules=torch)
