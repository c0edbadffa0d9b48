"""References that are stored as polynomials on the rectangles of a grid."""

from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np

from sciml.pde.collocation import GridFunction, Pieces
from sciml.pde.fields import Derivative


def stored_fields(path: Path, fields: Sequence[str]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of points (n, 2) that returns the fields, shape (n, fields).

    Args:
        path: a file with the breaks of both axes, x and y, the nodes of an interval scaled to [-1, 1], and the nodal
            values of each field.
        fields: which of its arrays.
    """
    with h5py.File(path) as file:
        nodes = np.asarray(file["nodes"])
        lines = tuple(Pieces(np.asarray(file[f"{a}_breaks"]), nodes) for a in "xy")
        values = {f: np.asarray(file[f]) for f in fields}
    grid = GridFunction(dict.fromkeys(fields, lines), values)
    wanted = [Derivative(f, (0, 0)) for f in fields]

    def function(points: np.ndarray) -> np.ndarray:
        found = grid(points, wanted)
        return np.stack([found[d] for d in wanted], axis=1)

    return function
