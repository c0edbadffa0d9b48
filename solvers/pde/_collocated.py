"""Residual problems on a box as systems of equations for nodal values."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from scipy.sparse import block_diag, csc_array, csr_array, eye_array, kron

from sciml.pde.collocation import Fourier, GridFunction, Line, Pieces, along, gauss, scaled
from sciml.pde.fields import Derivative, Relation, normal_name, space_axes

from ._layout import SHORTEST, Face, Mesh
from ._newton import newton

Entry = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows, columns and values of a part of a sparse matrix."""


@dataclass(frozen=True)
class Rows:
    """One relation at many points of space, as a function of the blocks of nodal values.

    Args:
        relation: what must vanish.
        count: number of points.
        arguments: coordinates and normals by name, each of shape (rows,).
        operators: for each derivative the block it is taken of, whether of that block's rate, and the matrix
            (rows, nodes).
    """

    relation: Relation
    count: int
    arguments: Mapping[str, np.ndarray]
    operators: Mapping[Derivative, tuple[int, bool, csr_array]]

    @cached_property
    def partials(self) -> dict[Derivative, Relation]:
        return {d: self.relation.partial(d) for d in self.relation.needs}

    def at(self, time: np.ndarray) -> dict[str, np.ndarray]:
        shape = (self.count, len(time))
        values = {name: np.broadcast_to(v[:, None], shape) for name, v in self.arguments.items()}
        return values if "t" in values else values | {"t": np.broadcast_to(time, shape)}

    def values(self, y: Sequence[np.ndarray], rate: Sequence[np.ndarray]) -> dict[Derivative, np.ndarray]:
        return {d: matrix @ (rate if rated else y)[block] for d, (block, rated, matrix) in self.operators.items()}


class System:
    """``G(t, y, y') = 0`` for nodal values y: equations, conditions, what joins pieces and orders in time.

    Equations hold at Gauss points, one fewer per condition than a field has nodes, so the conditions complete
    a square system whatever the order (rectangular collocation).
    Source: T. A. Driscoll and N. Hale, Rectangular spectral collocation, IMA J. Numer. Anal. 36 (2016),
    doi:10.1093/imanum/dru062.
    """

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.layout = mesh, mesh.layout
        layout = self.layout
        self.lines = {f: mesh.lines(f) for f in layout.fields}
        self.shape = {f: tuple(len(line.nodes) for line in self.lines[f]) for f in layout.fields}
        self.blocks = [(f, j) for f in layout.fields for j in range(max(1, layout.time_order[f]))]
        sizes = [math.prod(self.shape[f]) for f, _ in self.blocks]
        self.offsets = np.concatenate([[0], np.cumsum(sizes)])
        inside = {a: mesh.points(a) for a in layout.axes}
        self.rows = [self._rows(r, inside) for r in layout.equations] + [self._face(face) for face in layout.faces]
        self.joints = list(self._joints())
        self._patterns = [self._pattern(rows, start) for rows, start in zip(self.rows, self._starts, strict=True)]

    @property
    def size(self) -> int:
        return int(self.offsets[-1])

    @cached_property
    def count(self) -> int:
        """The number of rows."""
        return sum(r.count for r in self.rows) + sum(_height(m) for _, _, m in self.joints)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *np.cumsum([r.count for r in self.rows]).tolist()][:-1]

    def split(self, y: np.ndarray) -> list[np.ndarray]:
        """Return the blocks of y, shape (size, ...)."""
        return np.split(y, self.offsets[1:-1])

    def _rows(
        self, relation: Relation, points: Mapping[str, np.ndarray], normals: Mapping[str, float] | None = None
    ) -> Rows:
        count = math.prod(map(len, points.values()))
        grid = [g.ravel() for g in np.meshgrid(*points.values(), indexing="ij")]
        arguments = dict(zip(points, grid, strict=True))
        arguments |= {normal_name(a): np.full(count, n) for a, n in (normals or {}).items()}
        return Rows(relation, count, arguments, {d: self._operator(d, points) for d in relation.needs})

    def _operator(self, derivative: Derivative, points: Mapping[str, np.ndarray]) -> tuple[int, bool, csr_array]:
        field, axes = derivative.field, self.layout.box.axes
        orders = dict(zip(axes, derivative.order, strict=True))
        step = orders["t"] if self.layout.marching else 0
        rated = 0 < step == self.layout.time_order[field]
        block = self.blocks.index((field, step - rated))
        factors = [
            line.matrix(points[a], orders[a]) for a, line in zip(self.layout.axes, self.lines[field], strict=True)
        ]
        return block, rated, _kron(factors)

    def _face(self, face: Face) -> Rows:
        at = self.layout.axes.index(face.axis)
        points = {a: self._crossing(face.field, i, at) for i, a in enumerate(self.layout.axes)}
        points[face.axis] = self.mesh.breaks[face.axis][[-face.end]]
        normals = dict.fromkeys(space_axes(self.layout.axes), 0.0)
        if face.axis in normals:
            normals[face.axis] = 2.0 * face.end - 1.0
        return self._rows(face.relation, points, normals)

    def _crossing(self, field: str, axis: int, across: int) -> np.ndarray:
        """Return the points along one axis of rows that hold across another; each corner is met once."""
        return self._full(field, axis) if axis > across else self.mesh.points(self.layout.axes[axis])

    def _full(self, field: str, axis: int) -> np.ndarray:
        """Return as many points along an axis as a field has nodes, none of them shared by two pieces."""
        line = self.lines[field][axis]
        return scaled(line.breaks, gauss(len(line.reference))) if isinstance(line, Pieces) else line.nodes

    def _joints(self) -> Iterator[tuple[int, int | None, csr_array]]:
        """Yield (block, block whose rate is subtracted, matrix): continuity at breaks, chains in time."""
        for b, (field, j) in enumerate(self.blocks):
            if j > 0:
                yield b, b - 1, csr_array(eye_array(self.offsets[b + 1] - self.offsets[b]))
            lines = self.lines[field]
            for i, axis in enumerate(self.layout.axes if j == 0 else ()):
                line, wrapped = lines[i], axis in self.layout.periodic
                if not isinstance(line, Pieces) or len(line) == 1:
                    continue
                for order in range(self.layout.order[field, axis]):
                    factors = [o.matrix(self._crossing(field, k, i)) for k, o in enumerate(lines)]
                    factors[i] = line.jumps(order, wrapped)
                    yield b, None, _kron(factors)

    def residual(self, y: np.ndarray, rate: np.ndarray, time: np.ndarray) -> np.ndarray:
        """Return G, shape (rows, instants), for y and its rate of shape (size, instants)."""
        ys, rates = self.split(y), self.split(rate)
        parts = [r.relation(r.values(ys, rates), r.at(time)) for r in self.rows]
        parts += [m @ ys[b] if of is None else ys[b] - rates[of] for b, of, m in self.joints]
        return np.concatenate(parts)

    def initial(self, time: float) -> np.ndarray:
        """Return y at the first moment from the initial conditions; fields without a rate are zero."""
        settled = self.layout.initial
        assert settled is not None
        rows = []
        for (field, _), relation in settled.items():
            rows.append(self._rows(relation, {a: self._full(field, i) for i, a in enumerate(self.layout.axes)}))
        starts = [0, *np.cumsum([r.count for r in rows]).tolist()]
        patterns = [self._pattern(r, start) for r, start in zip(rows, starts, strict=False)]
        given = np.concatenate(
            [np.full(n, b in settled) for b, n in zip(self.blocks, np.diff(self.offsets), strict=True)]
        )
        moment = np.array([time])

        def spread(part: np.ndarray) -> list[np.ndarray]:
            y = np.zeros((self.size, 1))
            y[given, 0] = part
            return self.split(y)

        def residual(part: np.ndarray) -> np.ndarray:
            return np.concatenate([r.relation(r.values(spread(part), []), r.at(moment))[:, 0] for r in rows])

        def jacobian(part: np.ndarray) -> csc_array:
            entries = self._entries(rows, patterns, spread(part), [], time)[0]
            return self._assembled(entries, (starts[-1], self.size))[:, given]

        y = np.zeros(self.size)
        y[given], _ = newton(residual, jacobian, y[given], 1e-13)
        return y

    def linearised(self, y: np.ndarray, rate: np.ndarray, time: float) -> tuple[csc_array, csc_array]:
        """Return the sparse ``dG/dy`` and ``dG/dy'`` at one instant, y and its rate of shape (size,)."""
        entries = self._entries(self.rows, self._patterns, self.split(y[:, None]), self.split(rate[:, None]), time)
        start = self.count - sum(_height(m) for _, _, m in self.joints)
        for b, of, matrix in self.joints:
            joint = matrix.tocoo()
            row, column = joint.coords
            entries[0].append((start + row, self.offsets[b] + column, joint.data))
            if of is not None:
                entries[1].append((start + row, self.offsets[of] + column, np.negative(joint.data)))
            start += _height(matrix)
        shape = (self.count, self.size)
        return self._assembled(entries[0], shape), self._assembled(entries[1], shape)

    def _entries(
        self,
        rows: Sequence[Rows],
        patterns: Sequence[dict],
        y: list[np.ndarray],
        rate: list[np.ndarray],
        time: float,
    ) -> tuple[list[Entry], list[Entry]]:
        """Return the entries of ``dG/dy`` and of ``dG/dy'`` that some rows have."""
        entries: tuple[list[Entry], list[Entry]] = ([], [])
        for r, pattern in zip(rows, patterns, strict=True):
            values, arguments = r.values(y, rate), r.at(np.array([time]))
            for d, (rated, row, column, data, local) in pattern.items():
                partial = r.partials[d](values, arguments)[:, 0]
                entries[rated].append((row, column, data * partial[local]))
        return entries

    def _pattern(self, rows: Rows, start: int) -> dict[Derivative, tuple]:
        found = {}
        for d, (block, rated, matrix) in rows.operators.items():
            local = np.repeat(np.arange(_height(matrix)), np.diff(matrix.indptr))
            found[d] = (rated, start + local, self.offsets[block] + matrix.indices, matrix.data, local)
        return found

    @staticmethod
    def _assembled(entries: Sequence[Entry], shape: tuple[int, int]) -> csc_array:
        if not entries:
            return csc_array(shape)
        row, column, data = (np.concatenate(part) for part in zip(*entries, strict=True))
        return csc_array((data, (row, column)), shape=shape)

    def unresolved(self, y: np.ndarray, scale: np.ndarray, tolerance: float) -> dict[str, np.ndarray]:
        """Return, by axis, for each piece whether the last coefficients of some block exceed the tolerance.

        Args:
            y: shape (size, instants).
            scale: of each block.
        """
        found: dict[str, np.ndarray] = {}
        for (field, _), values, size in zip(self.blocks, self.split(y), scale, strict=True):
            grid = values.reshape(*self.shape[field], -1)
            for i, (axis, line) in enumerate(zip(self.layout.axes, self.lines[field], strict=True)):
                bad = _tails(line, np.moveaxis(grid, i, 0)) > tolerance * size
                if isinstance(line, Pieces):
                    bad &= np.diff(line.breaks) > SHORTEST * (line.breaks[-1] - line.breaks[0])
                found[axis] = found.get(axis, False) | bad
        return {axis: bad for axis, bad in found.items() if bad.any()}

    def tail(self, y: np.ndarray, scale: np.ndarray) -> float:
        """Return the greatest of the last coefficients along the axes, relative to the scale of its block.

        Args:
            y: shape (size, instants).
            scale: of each block.
        """
        greatest = 0.0
        for (field, _), values, size in zip(self.blocks, self.split(y), scale, strict=True):
            grid = values.reshape(*self.shape[field], -1)
            for i, line in enumerate(self.lines[field]):
                greatest = max(greatest, float(_tails(line, np.moveaxis(grid, i, 0)).max() / size))
        return greatest

    def transfer(self, finer: "System") -> csr_array:
        """Return the matrix that carries nodal values to a finer system's nodes, exactly."""
        parts = []
        for field, _ in self.blocks:
            pairs = zip(self.lines[field], finer.lines[field], strict=True)
            parts.append(_kron([old.matrix(new.nodes) for old, new in pairs]))
        return csr_array(block_diag(parts, format="csr"))

    def function(self, y: np.ndarray) -> GridFunction:
        """Return the fields as functions of the collocated axes, for y of shape (size,)."""
        parts = dict(zip(self.blocks, self.split(y), strict=True))
        return GridFunction(self.lines, {f: parts[f, 0].reshape(self.shape[f]) for f in self.layout.fields})


def _height(matrix: csr_array) -> int:
    return len(matrix.indptr) - 1


def _kron(factors: Sequence[csr_array]) -> csr_array:
    return csr_array(reduce(lambda a, b: kron(a, b, format="csr"), factors, csr_array([[1.0]])))


def _tails(line: Line, values: np.ndarray) -> np.ndarray:
    """Return the largest of the last two coefficients of each piece, for values with that axis first."""
    flat = values.reshape(len(line.nodes), -1)
    if isinstance(line, Fourier):
        coefficients = np.abs(line.coefficients @ flat)
        return np.array([max(coefficients[:2].max(), coefficients[-2:].max())])
    assert isinstance(line, Pieces)
    pieces = flat.reshape(len(line), len(line.reference), -1)
    return np.abs(along(line.coefficients[-2:], pieces, 1)).max(axis=(1, 2))
