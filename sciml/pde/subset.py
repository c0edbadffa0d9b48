"""Parts of parts: the points of a boundary where a predicate holds."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sciml.errors import UserError, did_you_mean
from sciml.pde.domains import Part, Points, Sampling

MOST_CANDIDATES = 1 << 17
"""Points drawn at once, at most, in search of those that fulfil a condition."""


@dataclass(frozen=True)
class Subset(Part):
    """The points of a part where a predicate holds.

    Args:
        whole: the part.
        axes: the names of the axes.
        holds: takes all coordinates by name, arrays of shape (n,), and returns booleans of that shape.
    """

    whole: Part
    axes: tuple[str, ...]
    holds: Callable[[Mapping[str, np.ndarray]], Any]

    def sample(self, n: int, generator: torch.Generator, method: Sampling, dtype: torch.dtype) -> Points:
        """Return n points, or as many as there are among 131 072 candidates.

        They are drawn in double precision, whatever the dtype, since predicates compare coordinates with numbers.

        Raises:
            UserError: the predicate holds nowhere, or returns another shape.
        """
        candidates = n
        while True:
            points = self.whole.sample(candidates, generator, method, torch.float64)
            found = points[torch.as_tensor(self._mask(points), device=generator.device)]
            if len(found) >= n or candidates >= MOST_CANDIDATES:
                break
            share = max(len(found) / len(points), 0.1 / len(points))
            candidates = min(math.ceil(1.2 * n / share), MOST_CANDIDATES)
        if not len(found):
            raise UserError(
                f"a condition's predicate matches no point among {candidates} of the boundary; look at `at`"
            )
        chosen = found if method == "grid" else found[torch.arange(min(n, len(found)), device=generator.device)]
        return chosen.to(dtype)

    def measure(self) -> float:
        """Return the share of 131 072 points where the predicate holds, times the measure of the whole."""
        points = self.whole.sample(MOST_CANDIDATES, torch.Generator().manual_seed(0), "sobol", torch.float64)
        return self.whole.measure() * float(self._mask(points).mean())

    def _mask(self, points: Points) -> np.ndarray:
        columns = points.coordinates.cpu().numpy().T
        mask = np.asarray(self.holds(dict(zip(self.axes, columns, strict=True))))
        if mask.dtype != bool or mask.shape != (len(points),):
            raise UserError(f"a predicate returned {mask.dtype} {mask.shape}, expected booleans ({len(points)},)")
        return mask


def by_name(predicate: Callable[..., Any]) -> Callable[[Mapping[str, np.ndarray]], Any]:
    """Let a predicate such as ``lambda x, y: x < y`` choose its arguments among all coordinates."""

    def holds(coordinates: Mapping[str, np.ndarray]) -> Any:
        wanted = inspect.signature(predicate).parameters
        for name in wanted:
            if name not in coordinates:
                known = ", ".join(coordinates)
                raise UserError(f"a predicate takes {name!r}{did_you_mean(name, coordinates)} (axes: {known})")
        return predicate(**{name: coordinates[name] for name in wanted})

    return holds
