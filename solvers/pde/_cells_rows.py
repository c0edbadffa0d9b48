"""What must hold in a slab of cells, as relations at places of the reference cell."""

from dataclasses import dataclass
from functools import cached_property

from sciml.pde.fields import Derivative, Field, Relation, symbol
from sciml.pde.tracing import trace

from ._layout import Layout

FIRM = 10.0
"""The weight of conditions and continuity over the equations, all being scaled to errors of the fields."""


@dataclass(frozen=True)
class Rows:
    """A relation at a place of some cells.

    Args:
        relation: what must vanish.
        place: of the reference cell.
        weight: over the equations.
        end: of the space axis where it holds, 0 or 1; None for all cells.
        datum: the field and the time derivative observed at the slab's start, if any.
    """

    relation: Relation
    place: str
    weight: float = 1.0
    end: int | None = None
    datum: Derivative | None = None

    @property
    def cells(self) -> slice:
        """The cells where it holds."""
        return slice(None) if self.end is None else slice(-1, None) if self.end else slice(0, 1)

    @cached_property
    def partials(self) -> dict[Derivative, Relation]:
        return {d: self.relation.partial(d) for d in self.relation.needs}


class Statement:
    """What holds in every slab, what in the first, and what joins cells.

    Args:
        layout: of a problem with one space axis that is marched in time.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout, self.fields = layout, layout.fields
        (self.axis,) = layout.axes
        self.across, self.along = layout.box.index(self.axis), layout.box.index("t")
        self.circle = self.axis in layout.periodic
        self.joints = [self.derivative(f, k) for f in self.fields for k in range(layout.order[f, self.axis])]
        always = [Rows(r, "inside") for r in layout.equations]
        for face in layout.faces:
            always.append(Rows(face.relation, "right" if face.end else "left", FIRM, face.end))
        assert layout.initial is not None
        self.first = [*always, *(Rows(r, "start", weight=FIRM) for r in layout.initial.values())]
        self.later = [*always, *map(self._continued, layout.initial)]

    def derivative(self, name: str, across: int = 0, along: int = 0) -> Derivative:
        order = [0, 0]
        order[self.across], order[self.along] = across, along
        return Derivative(name, (order[0], order[1]))

    def _continued(self, slot: tuple[str, int]) -> Rows:
        name, order = slot
        axes = self.layout.box.axes
        seen = Field(symbol("observed"), axes)
        (relation,) = trace(lambda *u: u[self.fields.index(name)].diff(*["t"] * order) - seen, self.fields, axes)
        return Rows(relation, "start", weight=FIRM, datum=self.derivative(name, 0, order))
