"""What a residual problem on a box asks of a grid, and the grid: conditions on faces, pieces and degrees."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sciml.pde.collocation import Fourier, Line, Pieces, gauss, lobatto, scaled
from sciml.pde.conditions import Initial, Observed, Periodic
from sciml.pde.domains import Box, Faces
from sciml.pde.fields import Relation, space_axes
from sciml.views.residual import Residual, Term

LONGEST = 100
"""The most points of a Fourier series; sharper functions are cheaper on pieces."""
SHORTEST = 1e-6
"""The shortest piece of an axis, relative to the axis."""


@dataclass(frozen=True)
class Face:
    """A condition on one end of one axis, and the field whose polynomials gain a degree to meet it."""

    relation: Relation
    axis: str
    end: int
    field: str


class Layout:
    """What the traced terms say before any grid is chosen.

    Where every field of time order m has m initial conditions, time is marched; otherwise it is an axis like
    the others and an initial condition is a condition on its face.

    Raises:
        ValueError: the problem cannot be collocated; the message says why.
    """

    def __init__(self, problem: Residual) -> None:
        if not isinstance(problem.region, Box):
            raise ValueError(f"it needs a Box, the domain is a {type(problem.region).__name__}")
        self.box = problem.region
        self.fields = tuple(f.name for f in problem.fields)
        self.equations = [t.relation for t in problem.terms if t.condition is None]
        if problem.unknowns:
            raise ValueError(f"{', '.join(u.name for u in problem.unknowns)} is sought, which leaves no square system")
        if any(isinstance(t.condition, Observed) for t in problem.terms):
            raise ValueError("observed data on top of the equations leave no square system")
        if len(self.equations) != len(self.fields):
            raise ValueError(f"{len(self.equations)} equations for {len(self.fields)} fields")
        lasting = [t for t in problem.terms if not isinstance(t.condition, Initial)]
        initial = [t for t in problem.terms if isinstance(t.condition, Initial)]
        time = {f: self._order(lasting, f, "t") if "t" in self.box.axes else 0 for f in self.fields}
        self.initial = _assign(initial, time, self.box)
        self.marching = self.initial is not None
        self.axes = space_axes(self.box.axes) if self.marching else self.box.axes
        self.time_order = time if self.marching else dict.fromkeys(self.fields, 0)
        self.order = {(f, a): self._order(lasting, f, a) for f in self.fields for a in self.axes}
        self.periodic = frozenset(problem.periodic_axes)
        self.faces: list[Face] = []
        for term in problem.terms:
            if (
                term.condition is not None
                and not isinstance(term.condition, Periodic)
                and not (self.marching and term in initial)
            ):
                self.faces += self._faces(term)

    def _order(self, terms: Sequence[Term], field: str, axis: str) -> int:
        i = self.box.index(axis)
        return max((d.order[i] for t in terms for d in t.relation.needs if d.field == field), default=0)

    def _faces(self, term: Term) -> Iterator[Face]:
        if not isinstance(term.part, Faces):
            raise ValueError(f"the condition {term.name} holds on a part of a face")
        for index, end in term.part.faces:
            axis = self.box.axes[index]
            if axis in self.periodic:
                raise ValueError(f"axis {axis} is periodic and has a condition {term.name} at its end")
            mentioned = [d.field for d in term.relation.needs]
            if not mentioned:
                raise ValueError(f"the condition {term.name} mentions no field")
            spare = [f for f in mentioned if self.extra(f, axis) < self.order[f, axis]]
            yield Face(term.relation, axis, end, (spare or mentioned)[0])

    def extra(self, field: str, axis: str) -> int:
        """Return how many degrees a field has along an axis beyond the equations: one per condition."""
        return sum(face.field == field and face.axis == axis for face in self.faces)

    def splits(self, axis: str) -> bool:
        """Return whether pieces of an axis can be joined: every field has as many conditions as its order."""
        return (
            axis in self.periodic
            or all(self.extra(f, axis) == self.order[f, axis] for f in self.fields)
            or (len(self.axes) == 1 and sum(self.extra(f, axis) - self.order[f, axis] for f in self.fields) == 0)
        )

    def imbalance(self) -> str | None:
        """Return on which axis conditions are missing or too many for the equations' order, or None.

        Fields without a rate, or of first order in a steady system, may go without, as pressures do; a condition
        they have may stand in for one of another field, as the pressure at an outflow does for the velocity.
        """
        for axis in (a for a in self.axes if a not in self.periodic):
            surplus = {f: self.extra(f, axis) - self.order[f, axis] for f in self.fields}
            if self.marching:
                bound = [f for f in self.fields if self.time_order[f]]
            else:
                bound = [f for f in self.fields if len(self.fields) == 1 or self.order[f, axis] > 1]
            stand_in = sum(self.extra(f, axis) for f in self.fields if f not in bound)
            if sum(surplus[f] for f in bound) + stand_in < 0:
                return f"too few conditions at the ends of {axis} for the equations' order"
            if sum(surplus.values()) > 0:
                return f"too many conditions at the ends of {axis} for the equations' order"
        return None


def _assign(terms: Sequence[Term], time: Mapping[str, int], box: Box) -> dict[tuple[str, int], Relation] | None:
    """Return which initial condition sets which time derivative of which field; None without a match."""
    wanted = {(f, j) for f, m in time.items() for j in range(m)}
    if not wanted or len(terms) != len(wanted):
        return None
    t, found = box.index("t"), {}
    for term in terms:
        candidates = sorted(((d.field, d.order[t]) for d in term.relation.needs), key=lambda c: -c[1])
        slot = next((c for c in candidates if c in wanted and c not in found), None)
        if slot is None:
            return None
        found[slot] = term.relation
    return found


@dataclass(frozen=True)
class Mesh:
    """The resolution along each axis.

    Args:
        layout: of the problem.
        degree: the number of points per piece to begin with.
        count: points per piece where equations are collocated, by axis.
        breaks: ends of the pieces, by axis; a periodic axis of one piece is a Fourier series.
    """

    layout: Layout
    degree: int
    count: Mapping[str, int]
    breaks: Mapping[str, np.ndarray]

    @classmethod
    def coarsest(cls, layout: Layout, count: int) -> "Mesh":
        odd = {a: count + (count + 1) % 2 if a in layout.periodic else count for a in layout.axes}
        return cls(layout, count, odd, {a: layout.box.bounds[layout.box.index(a)] for a in layout.axes})

    def waves(self, axis: str) -> bool:
        """Return whether an axis is a Fourier series."""
        return axis in self.layout.periodic and len(self.breaks[axis]) == 2

    def line(self, field: str, axis: str) -> Line:
        """Return a field's grid along an axis, one degree beyond the equations for each condition there."""
        breaks, count = self.breaks[axis], self.count[axis]
        if self.waves(axis):
            return Fourier(breaks[0], breaks[-1], count)
        extra = self.layout.order[field, axis] if axis in self.layout.periodic else self.layout.extra(field, axis)
        return Pieces(breaks, lobatto(max(2, count + extra)))

    def points(self, axis: str) -> np.ndarray:
        """Return where equations are collocated: Fourier nodes, or Gauss-Legendre points of each piece."""
        if self.waves(axis):
            return self.line(self.layout.fields[0], axis).nodes
        return scaled(self.breaks[axis], gauss(self.count[axis]))

    def lines(self, field: str) -> tuple[Line, ...]:
        """Return the tensor grid of a field."""
        return tuple(self.line(field, a) for a in self.layout.axes)

    def unknowns(self) -> int:
        """Return the number of nodal values at one instant."""
        blocks = {f: max(1, m) for f, m in self.layout.time_order.items()}
        return sum(m * math.prod(len(line.nodes) for line in self.lines(f)) for f, m in blocks.items())

    def refined(self, unresolved: Mapping[str, np.ndarray]) -> "Mesh":
        """Return a mesh with unresolved pieces halved, or half as many points again where none can be joined.

        A Fourier series of more than ``LONGEST`` points becomes joined pieces.
        """
        count, breaks = dict(self.count), dict(self.breaks)
        for axis, which in unresolved.items():
            if self.waves(axis) and count[axis] > LONGEST:
                count[axis], breaks[axis] = self.degree, np.linspace(breaks[axis][0], breaks[axis][-1], 9)
            elif self.layout.splits(axis) and not self.waves(axis):
                low, high = breaks[axis][:-1][which], breaks[axis][1:][which]
                breaks[axis] = np.sort(np.concatenate([breaks[axis], (low + high) / 2]))
            elif which.any():
                count[axis] += 2 * (count[axis] // 4 + 1)
        return replace(self, count=count, breaks=breaks)
