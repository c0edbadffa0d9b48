"""One time slab of cells: equations, conditions and continuity as rows of a least-squares problem."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from sciml.pde.fields import Derivative, normal_name

from ._cells_algebra import Chain
from ._cells_basis import Basis
from ._cells_rows import FIRM, Rows, Statement

FLOOR = 1e-3
"""A field smaller than this share of the greatest one is measured against that share."""


@dataclass
class Slab:
    """The fields on cells (interval x slab) as coordinates in the basis.

    Args:
        statement: of the problem.
        basis: of the reference cell.
        breaks: ends of the cells, shape (cells + 1,).
        start: of time.
        length: of time.
        values: the coordinates, shape (cells, fields, rank).
        before: the slab before, None for the first.
        scale: the size of each field, shape (fields,).
    """

    statement: Statement
    basis: Basis
    breaks: np.ndarray
    start: float
    length: float
    values: np.ndarray
    before: "Slab | None"
    scale: np.ndarray
    weights: list[np.ndarray] = field(default_factory=list)

    @property
    def cells(self) -> int:
        return len(self.breaks) - 1

    @cached_property
    def widths(self) -> np.ndarray:
        return np.diff(self.breaks)

    @cached_property
    def rows(self) -> list[Rows]:
        return self.statement.later if self.before else self.statement.first

    def coordinates(self, place: str) -> tuple[np.ndarray, np.ndarray]:
        """Return x and t at a place of every cell, shape (cells, points) each."""
        across, along = (self.basis.places[place] + 1).T / 2
        x = self.breaks[:-1, None] + self.widths[:, None] * across
        return x, np.broadcast_to(self.start + self.length * along, x.shape)

    def order(self, d: Derivative) -> tuple[int, int]:
        return d.order[self.statement.across], d.order[self.statement.along]

    def factor(self, d: Derivative) -> np.ndarray:
        """Return for each cell what a derivative on the reference cell is multiplied by, shape (cells,)."""
        across, along = self.order(d)
        return (2 / self.widths) ** across * (2 / self.length) ** along

    def take(self, d: Derivative, place: str, cells: slice = slice(None)) -> np.ndarray:
        """Return a derivative at a place of some cells, shape (cells, points)."""
        values = self.values[cells, self.statement.fields.index(d.field)]
        return values @ self.basis.matrix(place, self.order(d)).T * self.factor(d)[cells, None]

    def at(self, x: np.ndarray, along: np.ndarray, d: Derivative) -> np.ndarray:
        """Return a derivative at points x (n,) and at times of the reference cell (n,)."""
        cell = np.clip(np.searchsorted(self.breaks, x, side="right") - 1, 0, self.cells - 1)
        across = 2 * (x - self.breaks[cell]) / self.widths[cell] - 1
        functions = self.basis.features.matrix(np.stack([across, along], axis=1), self.order(d))
        values = self.values[:, self.statement.fields.index(d.field)] @ self.basis.transform.T
        return np.einsum("nm,nm->n", functions, values[cell]) * self.factor(d)[cell]

    def _operands(self, rows: Rows, place: str) -> tuple[dict[Derivative, np.ndarray], dict[str, np.ndarray]]:
        x, t = (z[rows.cells] for z in self.coordinates(place))
        arguments = {self.statement.axis: x, "t": t}
        if rows.end is not None:
            arguments[normal_name(self.statement.axis)] = np.full(x.shape, 2.0 * rows.end - 1)
        if rows.datum is not None:
            arguments["observed"] = self._data(rows.datum, place)
        return {d: self.take(d, place, rows.cells) for d in rows.relation.needs}, arguments

    def _data(self, d: Derivative, place: str) -> np.ndarray:
        key = d, place
        if key not in self._known:
            assert self.before is not None
            x = self.coordinates(place)[0]
            self._known[key] = self.before.at(x.ravel(), np.ones(x.size), d).reshape(x.shape)
        return self._known[key]

    @cached_property
    def _known(self) -> dict[tuple[Derivative, str], np.ndarray]:
        return {}

    def _unit(self, d: Derivative) -> np.ndarray:
        """Return the size of a derivative of an error as large as its field that varies as fast as the features."""
        size = self.scale[self.statement.fields.index(d.field)]
        return self.factor(d) * size * self.basis.bandwidth ** sum(d.order)

    def linearise(self) -> Chain:
        """Set the rows' weights and return the factorised least-squares problem of a Gauss-Newton step."""
        sizes = np.abs(self.values @ self.basis.matrix("inside", (0, 0)).T).max(axis=(0, 2))
        self.scale = np.maximum(self.scale, sizes)
        self.scale = np.maximum(self.scale, FLOOR * self.scale.max()) if self.scale.any() else np.ones_like(sizes)
        self.weights, parts = [], [[] for _ in range(self.cells)]
        for rows in self.rows:
            values, arguments = self._operands(rows, rows.place)
            slopes = {d: p(values, arguments) for d, p in rows.partials.items()}
            size = sum(np.abs(s) * self._unit(d)[rows.cells, None] for d, s in slopes.items())
            size = np.sqrt(np.mean(np.square(size), axis=1))
            self.weights.append(rows.weight / np.maximum(size, 1e-300))
            for k, c in enumerate(range(self.cells)[rows.cells]):
                parts[c].append(self._jacobian(rows, {d: s[k] for d, s in slopes.items()}, c, self.weights[-1][k]))
        joints = self._joints("left"), self._joints("right")
        whole = [np.concatenate([*parts[c], joints[0][c], joints[1][c]]) for c in range(self.cells)]
        return Chain(whole, joints[0].shape[1], self.statement.circle)

    def _jacobian(self, rows: Rows, slopes: dict[Derivative, np.ndarray], c: int, weight: float) -> np.ndarray:
        points, rank = len(self.basis.places[rows.place]), self.basis.rank
        block = np.zeros((points, len(self.statement.fields), rank))
        for d, slope in slopes.items():
            scaled = slope * (weight / np.sqrt(points) * self.factor(d)[c])
            block[:, self.statement.fields.index(d.field)] += scaled[:, None] * self.basis.matrix(
                rows.place, self.order(d)
            )
        return block.reshape(points, -1)

    def _steps(self, place: str) -> np.ndarray:
        """Return for each cell the length that makes derivatives at one of its interfaces comparable."""
        near = np.roll(self.widths, 1 if place.startswith("left") else -1)
        return np.minimum(self.widths, near) / 2

    def _joint_weight(self, d: Derivative, place: str) -> np.ndarray:
        size = self.scale[self.statement.fields.index(d.field)]
        return FIRM / size / np.sqrt(len(self.basis.places[place])) * self._steps(place) ** self.order(d)[0]

    def _meets(self, place: str) -> np.ndarray:
        """Return for each cell whether another one lies on that side."""
        meets = np.ones(self.cells)
        if not self.statement.circle:
            meets[0 if place.startswith("left") else -1] = 0.0
        return meets

    def _joints(self, place: str) -> np.ndarray:
        """Return every cell's rows of one interface, shape (cells, rows, unknowns)."""
        points, rank = len(self.basis.places[place]), self.basis.rank
        fields = self.statement.fields
        block = np.zeros((self.cells, len(self.statement.joints), points, len(fields), rank))
        for j, d in enumerate(self.statement.joints):
            weight = self._joint_weight(d, place) * self.factor(d) * self._meets(place)
            block[:, j, :, fields.index(d.field)] = weight[:, None, None] * self.basis.matrix(place, self.order(d))
        return block.reshape(self.cells, -1, len(fields) * rank)

    def _jumps(self, suffix: str = "") -> np.ndarray:
        """Return the weighted jumps at each cell's left end, shape (cells, joints, points)."""
        places = "left" + suffix, "right" + suffix
        jumps = []
        for d in self.statement.joints:
            jump = self.take(d, places[0]) - np.roll(self.take(d, places[1]), 1, axis=0)
            jumps.append(jump * (self._joint_weight(d, places[0]) * self._meets(places[0]))[:, None])
        return np.stack(jumps, axis=1) if jumps else np.zeros((self.cells, 0, len(self.basis.places["left"])))

    def _residuals(self, suffix: str = "") -> Iterator[tuple[Rows, np.ndarray]]:
        """Yield the weighted residual of all rows, shape (cells where they hold, points)."""
        for rows, weight in zip(self.rows, self.weights, strict=True):
            values, arguments = self._operands(rows, rows.place + suffix)
            residual = rows.relation(values, arguments)
            yield rows, residual * (weight / np.sqrt(residual.shape[1]))[:, None]

    def right(self) -> list[np.ndarray]:
        """Return for each cell minus the residual of its rows."""
        parts: list[list[np.ndarray]] = [[] for _ in range(self.cells)]
        for rows, residual in self._residuals():
            for part, r in zip(parts[rows.cells], residual, strict=True):
                part.append(-r)
        jumps = self._jumps().reshape(self.cells, -1) / 2
        for part, here, there in zip(parts, jumps, np.roll(jumps, -1, axis=0), strict=True):
            part += [-here, there]
        return [np.concatenate(part) for part in parts]

    def held_out(self) -> np.ndarray:
        """Return each cell's root mean square residual on points that no row uses, as an error of the fields."""
        total = np.sum(np.square(self._jumps("_held") / FIRM), axis=(1, 2))
        for rows, residual in self._residuals("_held"):
            total[rows.cells] += np.sum(np.square(residual / rows.weight), axis=1)
        return np.sqrt(total)

    def tails(self, start: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the size of Legendre coefficients from a share of the degrees on, across and along each cell."""
        n = self.basis.count
        grid = (self.values @ self.basis.matrix("inside", (0, 0)).T).reshape(*self.values.shape[:2], n, n)
        spectrum = self.basis.coefficients @ grid @ self.basis.coefficients.T / self.scale[:, None, None]
        cut = round(start * n)
        across, along = spectrum[:, :, cut:], spectrum[:, :, :, cut:]
        return (
            np.sqrt(np.sum(np.square(across), axis=(1, 2, 3))),
            np.sqrt(np.sum(np.square(along), axis=(1, 2, 3))),
        )

    def guessed(self, breaks: np.ndarray, start: float, length: float, before: "Slab | None") -> "Slab":
        """Return another slab that continues this one's fields, straight in time beyond its end."""
        other = replace(
            self, breaks=breaks, start=start, length=length, before=before, weights=[],
            values=np.zeros((len(breaks) - 1, *self.values.shape[1:])),
        )  # fmt: skip
        x, t = other.coordinates("inside")
        along = (2 * (t - self.start) / self.length - 1).ravel()
        within = np.minimum(along, 1.0)
        for k, name in enumerate(self.statement.fields):
            value = self.at(x.ravel(), within, self.statement.derivative(name))
            beyond = np.flatnonzero(along > 1)
            rate = self.at(x.ravel()[beyond], within[beyond], self.statement.derivative(name, 0, 1))
            value[beyond] += rate * (along[beyond] - 1) * self.length / 2
            other.values[:, k] = value.reshape(x.shape) @ self.basis.projection.T
        return other


def solve(slab: Slab, enough: float, most: int) -> tuple[int, int] | None:
    """Find a slab's coordinates by Gauss-Newton, keeping a factorisation while it contracts well.

    Returns:
        iterations and factorisations, or None without convergence.
    """
    before, chain, factored = 0.0, None, 0
    for iteration in range(1, most + 1):
        if chain is None:
            chain, factored = slab.linearise(), factored + 1
        change = np.stack(chain.solve(slab.right())).reshape(slab.values.shape)
        if not np.isfinite(change).all():
            return None
        slab.values += change
        size = float((np.linalg.norm(change, axis=2) / slab.scale).max())
        ratio = size / before if iteration > 1 else 1.0
        if size < enough or (ratio < 0.5 and size * ratio < enough) or (size < 1e-11 and iteration > 1 and ratio > 0.5):
            return iteration, factored
        if ratio > 0.1:
            chain = None
        before = size
    return None
