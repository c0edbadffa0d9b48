"""Conditions: each is an equation and the part of the domain where it holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sciml.errors import UserError, did_you_mean
from sciml.pde.domains import Domain, Part, Scattered
from sciml.pde.fields import Field, Relation, symbol
from sciml.pde.subset import Subset, by_name
from sciml.pde.tracing import trace

Equation = Callable[..., Any]
"""Takes fields by name or in order, and coordinates by name; returns what must be zero."""


@dataclass(frozen=True)
class Initial:
    """An equation at the first moment: ``Initial(lambda u, x: u - sin(x))`` or ``Initial(lambda u: u.t)``."""

    equation: Equation
    name: str = "initial"

    def part(self, domain: Domain) -> Part:
        return domain.start()


@dataclass(frozen=True)
class Boundary:
    """An equation on the boundary: ``u - g`` (Dirichlet), ``u.normal`` (Neumann), ``u.normal + u`` (Robin).

    Args:
        equation: what must be zero.
        at: one axis and the end where it holds, ``{"x": 0.0}``, or a predicate of the coordinates by name,
            ``lambda x, y: x**2 + y**2 < 1``; everywhere on the boundary without it.
    """

    equation: Equation
    at: Mapping[str, float] | Callable[..., Any] | None = None
    name: str = "boundary"

    def part(self, domain: Domain) -> Part:
        if callable(self.at):
            return Subset(domain.boundary(None), domain.axes, by_name(self.at))
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
        points, values = (np.asarray(given, dtype=float) for given in (self.points, self.values))
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "values", values)
        if points.ndim != 2 or values.shape != points.shape[:1] or not len(values):
            shapes = f"{points.shape} and {values.shape}"
            raise UserError(f"observed {self.field}: expected points (n, axes) and values (n,), n > 0; got {shapes}")
        if not (np.isfinite(points).all() and np.isfinite(values).all()):
            raise UserError(f"observed {self.field}: expected finite numbers, got NaN or infinity; remove those rows")

    def part(self, domain: Domain) -> Part:
        width = self.points.shape[1]
        if width != len(domain.axes):
            raise UserError(f"observed {self.field}: points have {width} columns, axes are {', '.join(domain.axes)}")
        outside = np.count_nonzero(~domain.contains(self.points))
        if outside:
            raise UserError(f"observed {self.field}: {outside} of {len(self.points)} points lie outside the domain")
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

    Raises:
        UserError: data of a field that is not there.
    """
    match condition:
        case Initial() | Boundary():
            return trace(condition.equation, fields, axes, normal=isinstance(condition, Boundary))
        case Periodic():
            depth = max(1, order.get(condition.axis, 1))
            return trace(lambda *u: [f.diff(*[condition.axis] * k) for f in u for k in range(depth)], fields, axes)
        case Observed():
            if condition.field not in fields:
                near = did_you_mean(condition.field, fields)
                raise UserError(f"observed {condition.field!r} is no field{near} (fields: {', '.join(fields)})")
            index = fields.index(condition.field)
            return trace(lambda *u: u[index] - Field(symbol("observed"), axes), fields, axes)
