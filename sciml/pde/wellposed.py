"""What is wrong with a definition, found before anything is solved: conditions that lack, abound or clash."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from sciml.pde.clashes import clashes, faces_of
from sciml.pde.conditions import Boundary, Observed
from sciml.pde.domains import Box
from sciml.pde.fields import space_axes, symbol
from sciml.problem import Complaint

if TYPE_CHECKING:
    from sciml.views.residual import Residual, Term

SAMPLE = 64
"""Points of a boundary condition at which it is asked on which faces it holds."""


def complaints(problem: "Residual") -> Iterator[Complaint]:
    """Yield what makes a problem ill-posed, or may; the data are compared at random points, the same each time.

    Raises:
        UserError: equations or conditions that cannot be read.
    """
    yield from _unmentioned(problem)
    yield from _conditions_in_time(problem)
    yield from _bare_axes(problem)
    yield from _unidentified(problem)
    yield from _contradictions(problem)


def _equations(problem: "Residual") -> list["Term"]:
    return [t for t in problem.terms if t.condition is None]


def _mentions(term: "Term", field: str) -> bool:
    return any(d.field == field for d in term.relation.needs)


def _order(problem: "Residual", field: str, axis: str) -> int:
    """Return the highest derivative of a field along an axis in the equations."""
    along = problem.region.index(axis)
    return max((d.order[along] for t in _equations(problem) for d in t.relation.needs if d.field == field), default=0)


def _observed(problem: "Residual") -> dict[str, list[np.ndarray]]:
    """Return the points of measurement of each field that has any."""
    found: dict[str, list[np.ndarray]] = {}
    for condition in problem.conditions():
        if isinstance(condition, Observed):
            found.setdefault(condition.field, []).append(condition.points)
    return found


def _unmentioned(problem: "Residual") -> Iterator[Complaint]:
    equations, fields = _equations(problem), [f.name for f in problem.fields]
    alone = [f for f in fields if not any(_mentions(t, f) for t in equations)]
    for name in alone:
        yield Complaint(
            f"expected every field in an equation, got none that mentions {name}; add one, or leave {name} out", True
        )
    known = len(equations) + len(_observed(problem))
    if not alone and known < len(fields):
        yield Complaint(
            f"expected an equation or measurements for each of the fields {', '.join(fields)}, got "
            f"{len(equations)} equation{'s' * (len(equations) != 1)}; add equations, or Observed data",
            True,
        )


def _conditions_in_time(problem: "Residual") -> Iterator[Complaint]:
    axes = problem.region.axes
    if "t" not in axes or "t" in problem.periodic_axes:
        return
    time, observed = axes.index("t"), _observed(problem)
    given = [t for t in problem.terms if (faces := faces_of(t.part)) and all(axis == time for axis, _ in faces)]
    orders = {f.name: _order(problem, f.name, "t") for f in problem.fields}
    needed = sum(orders.values())
    for name, order in orders.items():
        if order and not any(_mentions(t, name) for t in given):
            what = f"expected {_count(order)} of {name}, as the equations have {name}.{'t' * order}, got none"
            mend = f"add Initial(lambda {name}: {name} - ...) to the conditions"
            yield Complaint(f"{what}; {mend}", name not in observed)
            needed -= order
    if len(given) < needed:
        what = f"expected {_count(needed)}, one for each derivative in time ({_leading(orders)})"
        names = ", ".join(t.name for t in given)
        mend = "add what lacks, such as Initial(lambda u: u.t) for u.tt"
        yield Complaint(f"{what}, got {len(given)} ({names}); {mend}", not observed)
    if len(given) > sum(orders.values()):
        what = f"expected {_count(sum(orders.values()))}, one for each derivative in time ({_leading(orders)})"
        names = ", ".join(t.name for t in given)
        yield Complaint(f"{what}, got {len(given)} ({names}); leave out what follows from the equations", False)


def _count(n: int) -> str:
    return f"{n} initial condition{'s' * (n != 1)}"


def _leading(orders: dict[str, int]) -> str:
    return ", ".join(f"{name}.{'t' * order}" for name, order in orders.items() if order) or "none"


def _bare_axes(problem: "Residual") -> Iterator[Complaint]:
    """Yield the second-order axes at whose ends nothing is said of a field, not even by measurements."""
    observed, stated = _observed(problem), [(t, _ends(problem, t)) for t in problem.terms if t.condition]
    for axis in space_axes(problem.region.axes):
        if axis in problem.periodic_axes:
            continue
        for name in (f.name for f in problem.fields if f.name not in observed):
            order = _order(problem, name, axis)
            if order > 1 and not any(axis in ends and _mentions(t, name) for t, ends in stated):
                what = f"expected a boundary condition of {name} along {axis}, where its order is {order}"
                yield Complaint(f"{what}, got none; add Boundary(lambda {name}: ..., at={{'{axis}': ...}})", False)


def _ends(problem: "Residual", term: "Term") -> set[str]:
    """Return the axes at whose ends a boundary condition holds; on a shape all of space."""
    region = problem.region
    if not isinstance(term.condition, Boundary):
        return set()
    if not isinstance(region, Box):
        return set(space_axes(region.axes))
    points = term.part.sample(SAMPLE, torch.Generator().manual_seed(0), "uniform", torch.float64).coordinates.numpy()
    at_end = (points[:, :, None] == region.bounds).any(axis=(0, 2))
    return {a for a, touched in zip(region.axes, at_end, strict=True) if touched}


def _unidentified(problem: "Residual") -> Iterator[Complaint]:
    observed, equations = _observed(problem), _equations(problem)
    for unknown in (u.name for u in problem.unknowns):
        if not any(symbol(unknown) in t.relation.expression.free_symbols for t in equations):
            yield Complaint(
                f"expected {unknown} in an equation, since it is sought, got none that mentions it; "
                f"write self.{unknown} there, or leave it out of unknowns",
                True,
            )
    if problem.unknowns and not observed:
        names = ", ".join(u.name for u in problem.unknowns)
        yield Complaint(f"expected measurements from which to find {names}, got none; add Observed(...)", True)
    sought = bool(problem.unknowns) or len(equations) < len(problem.fields)
    for name, points in observed.items():
        where = np.concatenate(points)
        if len(where) > (not sought) and not np.ptp(where, axis=0).any():
            place = ", ".join(f"{a} = {x:g}" for a, x in zip(problem.region.axes, where[0], strict=True))
            yield Complaint(
                f"expected measurements of {name} at several points, got all {len(where)} at {place}; "
                "spread them, or state one mean value",
                False,
            )


def _contradictions(problem: "Residual") -> Iterator[Complaint]:
    if not isinstance(problem.region, Box):
        return
    for clash in clashes([t for t in problem.terms if t.condition], problem.region):
        what = f"expected conditions that agree where {clash.where}, got {' and '.join(clash.names)}"
        mend = "make them agree, or expect a jump" if clash.corner else "drop one"
        yield Complaint(f"{what} apart by {clash.gap:.2g}; {mend}", not clash.corner)
