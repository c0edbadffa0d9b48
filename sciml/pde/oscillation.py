"""How much the data of a problem oscillate."""

import numpy as np
import sympy
import torch
from scipy.signal import find_peaks

from sciml.pde.fields import Relation, symbol
from sciml.views.residual import Residual, Term

LINES, NODES = 8, 513
PROMINENT = 0.05
"""Height above its surroundings, relative to the range of all values, from which a peak counts."""
SMOOTH = 3
"""Extrema along an axis that smooth data have at most: a wave and a half."""


def is_oscillatory(most: int) -> bool:
    """Return whether data oscillate that have so many extrema along some axis."""
    return most > SMOOTH


def frequency(most: int) -> float:
    """Return an angular frequency for the first layer of a network, where an axis has length 2; at least 1.

    It is half that of the data, ``π/4`` for each extremum along an axis; the layers after it double frequencies.

    Args:
        most: extrema along an axis that the data have.
    """
    return max(1.0, np.pi / 4 * most)


def extrema(problem: Residual) -> dict[str, int]:
    """Return for each axis the most maxima and minima that sources and data of conditions have along it.

    They are counted on eight lines along the axis, through points where the equation or the condition holds.
    """
    found = dict.fromkeys(problem.region.axes, 0)
    for term in problem.terms:
        given = _given(term)
        for axis in found.keys() & {str(s) for s in given.expression.free_symbols}:
            found[axis] = max(found[axis], _along(axis, given, term, problem.region.bounds))
    return found


def _given(term: Term) -> Relation:
    """Return a term with zero for the fields; nothing where more than coordinates are left, or no number."""
    relation = term.relation
    given: sympy.Expr = relation.expression.subs(dict.fromkeys(relation.leaves.values(), 0))
    plain = given.free_symbols <= {symbol(a) for a in relation.axes} and not given.has(sympy.zoo, sympy.nan, sympy.oo)
    return Relation(given if plain else sympy.Integer(0), relation.leaves, relation.axes)


def _along(axis: str, given: Relation, term: Term, bounds: np.ndarray) -> int:
    start = term.part.sample(LINES, torch.Generator().manual_seed(0), "sobol", torch.float64)
    points = np.repeat(start.coordinates.numpy()[:, None], NODES, axis=1)
    column = given.axes.index(axis)
    points[..., column] = np.linspace(*bounds[column], num=NODES)
    with np.errstate(all="ignore"):
        values = given({}, dict(zip(given.axes, np.moveaxis(points, -1, 0), strict=True)))
    lines = values[np.isfinite(values).all(axis=1)]
    least = PROMINENT * np.ptp(lines) if lines.size else 0.0
    if not least:
        return 0
    return max(len(find_peaks(v, prominence=least)[0]) + len(find_peaks(-v, prominence=least)[0]) for v in lines)
