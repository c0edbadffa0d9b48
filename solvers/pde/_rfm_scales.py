"""How fast the data of a problem vary along each axis: the least bandwidths that its solution can have."""

import numpy as np

from sciml.pde.collocation import lobatto
from sciml.pde.fields import Derivative

from ._rfm_system import Group, Statement, System

NODES = 513
LINES = 4
"""Lines along each axis on which data are expanded."""
SHARE = 0.05
"""Chebyshev coefficients below this, relative to the greatest, do not count."""


def data_bandwidths(system: System, groups: list[Group]) -> list[float]:
    """Return by axis the greatest wave number of sources and of given values, times half the domain's extent.

    A sine of wave number w on (-1, 1) has Chebyshev coefficients up to the degree ``n = w + w^(1/3)`` or so.
    """
    found = [0.0] * len(system.problem.region.axes)
    for group in groups:
        for axis in range(len(found)):
            for statement in group.statements:
                if not statement.observed and np.ptp(group.coordinates[:, axis]) > 0:
                    found[axis] = max(found[axis], _bandwidth(system, group, statement, axis))
    return found


def _bandwidth(system: System, group: Group, statement: Statement, axis: int) -> float:
    region, name = system.problem.region, system.problem.region.axes[axis]
    low, high = region.bounds[axis]
    nodes = lobatto(NODES)
    zero: dict[Derivative, np.ndarray] = {d: np.zeros(NODES) for d in statement.relation.needs}
    worst = 0.0
    for row in range(min(LINES, len(group.coordinates))):
        arguments = {k: np.full(NODES, v[row]) for k, v in system.numbers(group, system.guesses).items()}
        arguments[name] = (low + high) / 2 + (high - low) / 2 * nodes
        with np.errstate(all="ignore"):
            data = statement.relation(zero, arguments)
        if np.isfinite(data).all() and np.ptp(data) > 1e-12 * np.abs(data).max():
            degree = float(np.flatnonzero(_large(data))[-1])
            worst = max(worst, degree - degree ** (1 / 3))
    return worst


def _large(values: np.ndarray) -> np.ndarray:
    """Return which Chebyshev coefficients of values at Chebyshev points are large."""
    mirrored = np.concatenate([values[::-1], values[1:-1]])
    sizes = np.abs(np.fft.rfft(mirrored))
    return sizes >= SHARE * sizes.max()
