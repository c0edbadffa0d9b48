"""Data that contradict each other: where two parts of the boundary meet, what their conditions ask for together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from sciml.pde.conditions import Periodic
from sciml.pde.domains import Box, Faces, Part
from sciml.pde.fields import Derivative, Relation, normal_name, space_axes
from sciml.pde.geometry import Region
from sciml.pde.subset import Subset

if TYPE_CHECKING:
    from sciml.views.residual import Term

Face = tuple[int, int]
"""An axis and its end, 0 or 1."""
POINTS = 32
"""Points drawn of each place where conditions meet."""
TOLERANCE = 1e-9
"""Relative difference of two values that counts as a contradiction."""
STEP = 1e-9
"""How far beside an edge it is asked whether a predicate holds, relative to the box."""


@dataclass(frozen=True)
class Clash:
    """Conditions that no field can meet together.

    Args:
        where: the place in words.
        names: of the conditions.
        gap: by how much they differ, in the unit of the data.
        corner: whether it is the edge of each part; on a whole face nothing can solve the problem.
    """

    where: str
    names: tuple[str, ...]
    gap: float
    corner: bool


def faces_of(part: Part) -> tuple[Face, ...]:
    """Return the faces of a box, or the end of time, on which a part of a boundary lies; none where unknown."""
    match part:
        case Faces():
            return part.faces
        case Subset():
            return faces_of(part.whole)
        case Region() if part.fixed:
            return (part.fixed,)
    return ()


def clashes(terms: Sequence["Term"], box: Box) -> Iterator[Clash]:
    """Yield where linear conditions contradict each other at points they share: on a face, and where two faces meet.

    At a point, conditions that are linear in the fields and their derivatives are linear equations; they clash
    where these have no solution. Both ends of a periodic axis are one place.
    """
    stated = [_Linear(t, box) for t in terms if faces_of(t.part) and t.relation.is_linear]
    faces = sorted({face for s in stated for face in faces_of(s.term.part)})
    torn = set()
    for face in faces:
        clash = _clash(stated, box, [(face, {})], _name(box, face), corner=False)
        if clash:
            torn.add(face)
            yield clash
    whole = [face for face in faces if face not in torn]
    for one, other in combinations(whole, 2):
        if one[0] != other[0]:
            sides = [(one, dict([other])), (other, dict([one]))]
            clash = _clash(stated, box, sides, f"{_name(box, one)} meets {_name(box, other)}", corner=True)
            if clash:
                yield clash
    for axis in dict.fromkeys(box.index(t.condition.axis) for t in terms if isinstance(t.condition, Periodic)):
        ends = " and ".join(_name(box, (axis, end)) for end in (0, 1))
        for face in (f for f in whole if f[0] != axis):
            sides = [(face, {axis: end}) for end in (0, 1)]
            clash = _clash(stated, box, sides, f"{_name(box, face)} and the periodic ends {ends} meet", corner=True)
            if clash:
                yield clash


@dataclass(frozen=True)
class _Linear:
    """A linear condition ``Σ_d a_d d = b`` on faces of a box."""

    term: "Term"
    box: Box

    @cached_property
    def partials(self) -> Mapping[Derivative, Relation]:
        return {d: self.term.relation.partial(d) for d in self.term.relation.needs}

    def row(self, points: np.ndarray, face: Face) -> tuple[dict[Derivative, np.ndarray], np.ndarray]:
        """Return a_d and b at points of a face, scaled to a largest a_d of 1, and all zero where it states nothing."""
        axes = self.box.axes
        arguments = dict(zip(axes, points.T, strict=True))
        for a in space_axes(axes):
            along = self.box.index(a) == face[0]
            arguments[normal_name(a)] = np.full(len(points), (2.0 * face[1] - 1.0) * along)
        zero = dict.fromkeys(self.partials, np.zeros(len(points)))
        left = np.array([partial(zero, arguments) for partial in self.partials.values()])
        right = -self.term.relation(zero, arguments)
        largest = np.take_along_axis(left, np.abs(left).argmax(axis=0)[None], axis=0)[0]
        holds = np.isfinite(left).all(axis=0) & np.isfinite(right) & (largest != 0)
        if isinstance(self.term.part, Subset):
            beside = points + STEP * (self.box.bounds.mean(axis=1) - points)
            beside[:, face[0]] = self.box.bounds[face]
            holds &= self.term.part.holds(dict(zip(axes, beside.T, strict=True)))
        scale = np.where(holds, largest, np.inf)
        return dict(zip(self.partials, left / scale, strict=True)), np.where(holds, right / scale, 0.0)


def _clash(
    stated: Sequence[_Linear], box: Box, sides: Sequence[tuple[Face, dict[int, int]]], where: str, corner: bool
) -> Clash | None:
    """Look for a contradiction among conditions at random points that all sides share.

    Args:
        sides: each a face, and the ends of other axes to which its points are moved.
    """
    with np.errstate(all="ignore"):
        rows = [
            (s.term.name, *s.row(_points(box, dict([face]) | moved), face), s.row(_points(box, dict([face])), face)[1])
            for face, moved in sides
            for s in stated
            if face in faces_of(s.term.part)
        ]
    if len(rows) < 2:
        return None
    columns = sorted({d for _, left, _, _ in rows for d in left})
    nothing = np.zeros(POINTS)
    matrix = np.array([[left.get(d, nothing) for d in columns] for _, left, _, _ in rows]).transpose(2, 0, 1)
    right = np.array([value for _, _, value, _ in rows]).T
    size = max(np.abs(data).max() for *_, data in rows) or np.abs(right).max() or 1.0
    solved = np.linalg.pinv(matrix, rcond=1e-10) @ right[..., None]
    missed = np.abs((matrix @ solved)[..., 0] - right).max(axis=0)
    gap = 2 * missed.max()  # two values of one field miss their mean by half of their difference
    if gap <= TOLERANCE * size:
        return None
    names = dict.fromkeys(name for (name, *_), miss in zip(rows, missed, strict=True) if 2 * miss > TOLERANCE * size)
    return Clash(where, tuple(names), float(gap), corner)


def _points(box: Box, fixed: Mapping[int, int]) -> np.ndarray:
    """Return the same random points each time, some coordinates moved to an end of their axis."""
    low, high = box.bounds.T
    points = low + (high - low) * np.random.default_rng(0).random((POINTS, len(low)))
    for axis, end in fixed.items():
        points[:, axis] = box.bounds[axis, end]
    return points


def _name(box: Box, face: Face) -> str:
    return f"{box.axes[face[0]]} = {box.bounds[face]:g}"
