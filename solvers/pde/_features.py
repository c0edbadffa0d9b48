"""A fixed random layer of sines over a box, with derivatives of any order in closed form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Order = tuple[int, ...]
"""How often to differentiate along each axis."""


@dataclass(frozen=True)
class Features:
    """The functions ``sin(w_j . (z - o) + b_j)``, j = 1 ... count; each derivative turns the phase by a quarter.

    Source: J. Chen, X. Chi, W. E, Z. Yang, Bridging traditional and machine learning-based algorithms for solving
    PDEs: the random feature method (2022), arXiv 2207.13380.

    Args:
        weights: w, angular wave numbers, shape (axes, count).
        phases: b, shape (count,).
        origin: o, shape (axes,).
    """

    weights: np.ndarray
    phases: np.ndarray
    origin: np.ndarray

    @classmethod
    def draw(
        cls,
        bounds: np.ndarray,
        count: int,
        bandwidths: Sequence[float],
        generator: np.random.Generator,
        periodic: Sequence[int] = (),
    ) -> "Features":
        """Draw the features of a box.

        Args:
            bounds: the box, shape (axes, 2).
            count: the number of features.
            bandwidths: the greatest wave number along each axis, times half the box's extent there.
            generator: the source of randomness.
            periodic: axes along which every feature has the box's extent as a period.
        """
        half = (bounds[:, 1] - bounds[:, 0]) / 2
        unit = generator.uniform(-1, 1, (len(bounds), count))
        scaled = unit * np.asarray(bandwidths, dtype=float)[:, None]
        for axis in periodic:
            waves = np.floor(bandwidths[axis] / np.pi) + 0.5
            scaled[axis] = np.pi * np.rint(waves * unit[axis])
        phases = generator.uniform(0, 2 * np.pi, count)
        return cls(scaled / half[:, None], phases, bounds.mean(axis=1))

    def __len__(self) -> int:
        return len(self.phases)

    def matrix(self, points: np.ndarray, order: Order) -> np.ndarray:
        """Return one derivative of every feature at points (n, axes), shape (n, count)."""
        return self.matrices(points, [order])[order]

    def matrices(self, points: np.ndarray, orders: Sequence[Order]) -> Mapping[Order, np.ndarray]:
        """Return several derivatives, each of shape (n, count), for one evaluation of sine and cosine each."""
        angles = (points - self.origin) @ self.weights + self.phases
        waves = {odd: (np.cos if odd else np.sin)(angles) for odd in {sum(o) % 2 for o in orders}}
        return {o: waves[sum(o) % 2] * self._factor(o) for o in orders}

    def _factor(self, order: Order) -> np.ndarray:
        sign = -1.0 if sum(order) % 4 >= 2 else 1.0
        return sign * np.prod(self.weights ** np.array(order)[:, None], axis=0)
