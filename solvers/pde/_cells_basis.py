"""Random features on the reference cell [-1, 1] x [-1, 1], orthonormalised once for all cells."""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.polynomial import legendre

from sciml.pde.collocation import gauss

from ._features import Features

SQUARE = np.array([[-1.0, 1.0], [-1.0, 1.0]])
RANK = 1e-13
"""Directions of the features' span are kept down to this singular value, relative to the largest."""
FINE = 32
"""Gauss points per axis on which the features are orthonormalised."""
ROWS = 1.6
"""Equations per unknown of a cell."""

Order = tuple[int, int]


def draw(count: int, seed: Sequence[int]) -> Features:
    """Return features whose wave numbers grow with the degree of polynomials that are as many."""
    return Features.draw(SQUARE, count, [0.3 * math.sqrt(2 * count)] * 2, np.random.default_rng(seed))


class Basis:
    """The features' span in orthonormal coordinates, at the places of the reference cell where things are asked.

    Args:
        features: on the reference cell.
        seed: of the held-out points.
    """

    def __init__(self, features: Features, seed: Sequence[int]) -> None:
        self.features = features
        self.bandwidth = float(np.abs(features.weights).max())
        nodes, mass = legendre.leggauss(FINE)
        root = np.sqrt(np.outer(mass, mass).ravel() / 4)
        values = features.matrix(tensor(nodes, nodes), (0, 0))
        _, size, right = np.linalg.svd(values * root[:, None], full_matrices=False)
        self.rank = int(np.sum(size > RANK * size[0]))
        self.transform = right[: self.rank].T / size[: self.rank]
        """From orthonormal coordinates to the features' coefficients, shape (features, rank)."""
        self.count = math.ceil(math.sqrt(ROWS * self.rank))
        """Collocation points per axis inside."""
        line, few = gauss(self.count), gauss(self.count - 2)
        drawn = np.random.default_rng([*seed, 1]).uniform(-1, 1, (2, self.rank // 2))
        self.places = {"inside": tensor(line, line), "inside_held": drawn.T}
        for suffix, across, along in (("", line, few), ("_held", drawn[0, : self.count], drawn[1, : self.count])):
            self.places |= {
                "left" + suffix: tensor(np.array([-1.0]), along),
                "right" + suffix: tensor(np.array([1.0]), along),
                "start" + suffix: tensor(across, np.array([-1.0])),
            }
        self._matrices: dict[tuple[str, Order], np.ndarray] = {}

    def matrix(self, place: str, order: Order) -> np.ndarray:
        """Return a derivative of the orthonormal functions at a place, shape (points, rank)."""
        key = place, order
        if key not in self._matrices:
            self._matrices[key] = self.features.matrix(self.places[place], order) @ self.transform
        return self._matrices[key]

    @cached_property
    def projection(self) -> np.ndarray:
        """The matrix (rank, points inside) from values to the coordinates of the nearest function."""
        _, mass = legendre.leggauss(self.count)
        root = np.sqrt(np.outer(mass, mass).ravel())
        return np.linalg.pinv(self.matrix("inside", (0, 0)) * root[:, None], rcond=1e-8) * root

    @cached_property
    def coefficients(self) -> np.ndarray:
        """The matrix (count, count) from values at Gauss points of an axis to orthonormal Legendre coefficients."""
        nodes, mass = legendre.leggauss(self.count)
        degree = np.arange(self.count)
        return (legendre.legvander(nodes, self.count - 1) * np.sqrt(2 * degree + 1)).T * mass / 2


def tensor(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the points of a tensor grid, shape (n, 2), the second coordinate fastest."""
    return np.stack([g.ravel() for g in np.meshgrid(first, second, indexing="ij")], axis=1)
