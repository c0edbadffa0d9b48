"""Functions known by their values on a tensor grid: derivatives, interpolation, the grid's interpreter."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.polynomial import chebyshev as series
from scipy.sparse import csr_array

from sciml.pde.fields import Array, Derivative

BLOCK = 512
"""Scattered points evaluated at once."""


class Line(ABC):
    """A one-dimensional grid and the functions that are exact on it."""

    nodes: np.ndarray
    """Shape (n,), ascending."""

    @abstractmethod
    def matrix(self, points: np.ndarray, order: int = 0) -> csr_array:
        """Return the matrix (points, n) that maps nodal values to a derivative at the points."""


class Pieces(Line):
    """Polynomials of one degree on each of several intervals, by barycentric Lagrange interpolation.

    Both sides of an inner break have a node of their own, so a function may jump there.
    Source: J.-P. Berrut and L. N. Trefethen, Barycentric Lagrange interpolation, SIAM Review 46 (2004),
    doi:10.1137/S0036144502417715.

    Args:
        breaks: ends of the intervals, shape (pieces + 1,), ascending.
        reference: nodes of every interval, scaled to [-1, 1], shape (k,), ascending.
    """

    def __init__(self, breaks: np.ndarray, reference: np.ndarray) -> None:
        self.breaks = np.asarray(breaks, dtype=float)
        self.reference = np.asarray(reference, dtype=float)
        self.nodes = scaled(self.breaks, self.reference)

    def __len__(self) -> int:
        return len(self.breaks) - 1

    @cached_property
    def weights(self) -> np.ndarray:
        """Barycentric weights of the reference nodes."""
        differences = 2 * (self.reference[:, None] - self.reference)  # an interval of length 2 has capacity 1/2
        np.fill_diagonal(differences, 1.0)
        return 1 / differences.prod(axis=1)

    @cached_property
    def differentiation(self) -> np.ndarray:
        """The differentiation matrix on the reference nodes; rows sum to zero exactly."""
        gaps = self.reference[:, None] - self.reference
        np.fill_diagonal(gaps, 1.0)
        matrix = self.weights / self.weights[:, None] / gaps
        np.fill_diagonal(matrix, 0.0)
        np.fill_diagonal(matrix, -matrix.sum(axis=1))
        return matrix

    @cached_property
    def coefficients(self) -> np.ndarray:
        """The matrix (k, k) from nodal values of one piece to its Chebyshev coefficients."""
        return np.linalg.inv(series.chebvander(self.reference, len(self.reference) - 1))

    def matrix(self, points: np.ndarray, order: int = 0) -> csr_array:
        piece = np.clip(np.searchsorted(self.breaks, points, side="right") - 1, 0, len(self) - 1)
        return self._rows(piece, points, order)

    def jumps(self, order: int, periodic: bool = False) -> csr_array:
        """Return the matrix to a derivative's jump at inner breaks, and from end to start where periodic."""
        left = np.arange(len(self) - (not periodic))
        right = (left + 1) % len(self)
        return csr_array(self._rows(left, self.breaks[left + 1], order) - self._rows(right, self.breaks[right], order))

    def _rows(self, piece: np.ndarray, points: np.ndarray, order: int) -> csr_array:
        low, length = self.breaks[piece], np.diff(self.breaks)[piece]
        rows = self._interpolation(2 * (points - low) / length - 1)
        rows = rows @ np.linalg.matrix_power(self.differentiation, order) * (2 / length[:, None]) ** order
        k = len(self.reference)
        columns = piece[:, None] * k + np.arange(k)
        starts = np.arange(len(points) + 1) * k
        return csr_array((rows.ravel(), columns.ravel(), starts), shape=(len(points), len(self.nodes)))

    def _interpolation(self, at: np.ndarray) -> np.ndarray:
        gaps = at[:, None] - self.reference
        hit = np.abs(gaps) < 1e-15
        rows = self.weights / np.where(hit, 1.0, gaps)
        rows = np.where(hit.any(axis=1, keepdims=True), hit, rows)
        return rows / rows.sum(axis=1, keepdims=True)


class Fourier(Line):
    """Trigonometric polynomials on equidistant points of one period.

    Args:
        low: where the period starts.
        high: where it ends; not a node, since its value is that at ``low``.
        n: number of points, odd so that every derivative is unambiguous.
    """

    def __init__(self, low: float, high: float, n: int) -> None:
        self.low, self.high, self.n = low, high, n
        self.nodes = low + (high - low) * np.arange(n) / n

    @cached_property
    def modes(self) -> np.ndarray:
        """Angular wave numbers from the lowest to the highest, shape (n,)."""
        return 2 * np.pi / (self.high - self.low) * np.arange(-(self.n // 2), self.n // 2 + 1)

    @cached_property
    def coefficients(self) -> np.ndarray:
        """The matrix (n, n) from nodal values to Fourier coefficients in the order of ``modes``."""
        return np.exp(-1j * self.modes[:, None] * self.nodes) / self.n

    def matrix(self, points: np.ndarray, order: int = 0) -> csr_array:
        waves = np.exp(1j * points[:, None] * self.modes) * (1j * self.modes) ** order
        return csr_array((waves @ self.coefficients).real)


@dataclass(frozen=True)
class GridFunction:
    """Fields known by their values on tensor grids; called, it is the grid's interpreter of equations.

    Args:
        lines: the grid of each field, one line per axis.
        values: nodal values of each field, their shape following its lines.
    """

    lines: Mapping[str, tuple[Line, ...]]
    values: Mapping[str, np.ndarray]

    def __call__(self, coordinates: Array, needs: Sequence[Derivative]) -> dict[Derivative, Array]:
        """Return each derivative wanted, shape (n,), at points (n, axes), numpy or torch as they came."""
        points = np.asarray(coordinates, dtype=float)
        found = {d: self._evaluate(d, points) for d in needs}
        if not isinstance(coordinates, torch.Tensor):
            return found
        return {d: torch.as_tensor(v).to(coordinates) for d, v in found.items()}

    def _evaluate(self, derivative: Derivative, points: np.ndarray) -> np.ndarray:
        lines, values = self.lines[derivative.field], self.values[derivative.field]
        split = [np.unique(p, return_inverse=True) for p in points.T]
        distinct, index = [u for u, _ in split], tuple(i for _, i in split)
        if np.prod([float(len(u)) for u in distinct]) <= 4 * len(points):
            matrices = _matrices(lines, distinct, derivative.order)
            for axis in _sparsest(matrices):
                values = along(matrices[axis], values, axis)
            return values[index]
        blocks = [points[k : k + BLOCK] for k in range(0, len(points), BLOCK)]
        return np.concatenate([_scattered(lines, values, derivative.order, b) for b in blocks])


def along(matrix: csr_array | np.ndarray, values: np.ndarray, axis: int) -> np.ndarray:
    """Return the values with a matrix applied along one axis."""
    front = np.moveaxis(values, axis, 0)
    if isinstance(matrix, csr_array) and len(used := np.unique(matrix.indices)) < len(front):
        matrix, front = matrix[:, used], front[used]
    result = matrix @ front.reshape(len(front), -1)
    return np.moveaxis(result.reshape(-1, *front.shape[1:]), 0, axis)


def lobatto(n: int) -> np.ndarray:
    """Return n >= 2 Chebyshev points on [-1, 1], ends included, ascending."""
    return np.sin(np.pi / 2 * np.linspace(-1, 1, n))


def gauss(n: int) -> np.ndarray:
    """Return the n Gauss-Legendre points on (-1, 1), ascending."""
    return np.polynomial.legendre.leggauss(n)[0]


def chebyshev(low: float, high: float, n: int) -> Pieces:
    """Return the grid of n Chebyshev points on one interval."""
    return Pieces(np.array([low, high]), lobatto(n))


def scaled(breaks: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return reference points of [-1, 1] carried to each interval between breaks, shape (pieces * k,)."""
    low, high = breaks[:-1, None], breaks[1:, None]
    return np.where(
        reference < 0, low + (high - low) * (1 + reference) / 2, high - (high - low) * (1 - reference) / 2
    ).ravel()


def _scattered(lines: Sequence[Line], values: np.ndarray, order: Sequence[int], points: np.ndarray) -> np.ndarray:
    matrices = _matrices(lines, list(points.T), order)
    first, *others = _sparsest(matrices)
    result = along(matrices[first], values.transpose(first, *others), 0)
    for axis in others:
        result = np.einsum("mn,mn...->m...", matrices[axis].toarray(), result)
    return result


def _matrices(lines: Sequence[Line], at: Sequence[np.ndarray], order: Sequence[int]) -> list[csr_array]:
    return [line.matrix(points, times) for line, points, times in zip(lines, at, order, strict=True)]


def _sparsest(matrices: Sequence[csr_array]) -> list[int]:
    """Return the axes in the order in which applying their matrices takes least work."""
    sizes: list[Any] = [m.shape for m in matrices]
    return sorted(range(len(matrices)), key=lambda k: matrices[k].nnz / max(1, math.prod(sizes[k])))
