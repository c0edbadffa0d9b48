"""Generators that fail."""

import numpy as np

from sciml.errors import UserError
from sciml.grid.powergrid import PowerGrid


def without_generators(grid: PowerGrid, inputs: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scenarios with generators out, shape (n, inputs), and which buses still hold their voltage.

    A bus loses its share of generation, and ceases to be regulated with its last generator; the slack
    makes up for what is lost.

    Args:
        grid: the arrays.
        inputs: scenarios, shape (n, inputs).
        out: the generators that fail, shape (n, generators), bool.

    Returns:
        Inputs, and shape (n, regulated), bool.

    Raises:
        UserError: nothing is left at the slack.
    """
    place = np.argsort(grid.regulated)[np.searchsorted(np.sort(grid.regulated), grid.generators.bus)]
    at = np.equal.outer(place, np.arange(len(grid.regulated))).astype(float)
    held = (~out @ at) > 0
    if not held[:, 0].all():
        raise UserError(f"every generator at the slack, bus {grid.numbers[grid.slack]}, is out; keep one")
    weight = np.abs(grid.generators.power) + 1e-9  # shares of units without power are equal
    share = ((~out * weight) @ at) / (weight @ at)
    first = 2 * len(grid.loads)
    changed = inputs.copy()
    changed[:, first : first + len(grid.generation)] *= share[:, 1:]
    return changed, held


def failing(grid: PowerGrid, inputs: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Return scenarios in which none to ``most`` generators have failed, each number as likely, shape (n, inputs).

    Those at the slack stay. A bus without any left has the set-point zero.

    Args:
        grid: the arrays.
        inputs: scenarios, shape (n, inputs).
        most: generators out.
        rng: the one source of randomness.

    Raises:
        UserError: there are fewer generators.
    """
    if not most:
        return inputs
    able = np.flatnonzero(grid.generators.bus != grid.slack)
    if len(able) < most:
        raise UserError(f"{len(able)} generators may be out, {most} are asked for; ask for fewer")
    order = rng.permuted(np.tile(np.arange(len(able)), (len(inputs), 1)), axis=1)
    out = np.zeros((len(inputs), len(grid.generators.bus)), bool)
    out[:, able] = order < rng.integers(most + 1, size=(len(inputs), 1))
    changed, held = without_generators(grid, inputs, out)
    changed[:, -len(grid.source) - len(grid.setpoint) : -len(grid.source)] *= held
    return changed
