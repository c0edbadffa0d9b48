"""Conditions: each is an equation and the part of the domain where it holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sciml.domains import Domain, Part, Scattered
from sciml.errors import UserError
from sciml.fields import Field, Relation, symbol
from sciml.tracing import trace

Equation = Callable[..., Any]
"""Takes the fields in order, then any coordinates by name; returns what must be zero."""


@dataclass(frozen=True)
class Initial:
    """An equation at the first moment, ``Initial(lambda u, x: u - torch.sin(x))`` or ``Initial(lambda u: u.t)``."""

    equation: Equation
    name: str = "initial"

    def part(self, domain: Domain) -> Part:
        return domain.start()


@dataclass(frozen=True)
class Boundary:
    """An equation on the boundary in space: ``u - g`` (Dirichlet), ``u.normal - g`` (Neumann), ``u.normal + h*u`` (Robin).

    Args:
        equation: what must be zero.
        at: one axis and the end where it holds, ``{"x": 0.0}``; everywhere on the boundary without it.
    """

    equation: Equation
    at: Mapping[str, float] | None = None
    name: str = "boundary"

    def part(self, domain: Domain) -> Part:
        return domain.boundary(self.at)


@dataclass(frozen=True)
class Periodic:
    """The fields and their derivatives below the equations' order agree at both ends of an axis."""

    axis: str
    name: str = "periodic"

    def part(self, domain: Domain) -> Part:
        return domain.opposite(self.axis)


@dataclass(frozen=True)
class Observed:
    """A field has measured values at given points.

    Args:
        field: its name.
        points: shape (n, axes).
        values: shape (n,), in the field's unit.

    Raises:
        UserError: shapes that do not match, or would broadcast.
    """

    field: str
    points: np.ndarray
    values: np.ndarray
    name: str = "observed"

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.values.shape != self.points.shape[:1] or not len(self.values):
            raise UserError(
                f"observed {self.field}: expected points (n, axes) and values (n,) with n > 0, "
                f"got {self.points.shape} and {self.values.shape}"
            )

    def part(self, domain: Domain) -> Part:
        return Scattered(self.points, self.values)


Condition = Initial | Boundary | Periodic | Observed


def relations(
    condition: Condition, fields: tuple[str, ...], axes: tuple[str, ...], order: Mapping[str, int]
) -> tuple[Relation, ...]:
    """Return the scalar equations of a condition.

    Args:
        fields: names of the fields.
        axes: names of the coordinates.
        order: the highest derivative of the equations along each axis.
    """
    match condition:
        case Initial() | Boundary():
            return trace(condition.equation, fields, axes, normal=isinstance(condition, Boundary))
        case Periodic():
            depth = max(1, order.get(condition.axis, 1))
            return trace(
                lambda *u: [f.diff(*[condition.axis] * k) for f in u for k in range(depth)], fields, axes
            )
        case Observed():
            index = fields.index(condition.field)
            return trace(lambda *u: u[index] - Field(symbol("observed"), axes), fields, axes)
