"""Where equations hold: boxes of any dimension, with or without time, and the parts of their boundary."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from sciml.errors import UserError, did_you_mean
from sciml.pde.fields import normal_name, space_axes

Sampling = Literal["uniform", "sobol", "lhs", "grid"]


@dataclass(frozen=True)
class Points:
    """Points of a part of a domain.

    Args:
        coordinates: shape (n, axes).
        extras: further values per point by name, each of shape (n,): the outward normal, observed values.
        partner: shape (n, axes); where a condition ties two points (periodicity), the other one.
    """

    coordinates: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    partner: Tensor | None = None

    def __len__(self) -> int:
        return len(self.coordinates)

    def __getitem__(self, index: Tensor) -> "Points":
        """Return some of the points, by number or by mask."""
        extras = {name: values[index] for name, values in self.extras.items()}
        return Points(self.coordinates[index], extras, None if self.partner is None else self.partner[index])

    def to(self, dtype: torch.dtype) -> "Points":
        """Return the points in another precision."""
        extras = {name: values.to(dtype) for name, values in self.extras.items()}
        return Points(self.coordinates.to(dtype), extras, None if self.partner is None else self.partner.to(dtype))

    def arguments(self, axes: Sequence[str]) -> dict[str, Tensor]:
        """Return coordinates and extras by name, as a relation takes them."""
        return {a: self.coordinates[:, i] for i, a in enumerate(axes)} | dict(self.extras)


class Part(ABC):
    """A part of a domain from which points can be drawn."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator, method: Sampling, dtype: torch.dtype) -> Points:
        """Return about n points on the generator's device."""

    @abstractmethod
    def measure(self) -> float:
        """Return the volume, or the area, length or number of points of a part without one."""


class Domain(ABC):
    """A region of space, or of space and time, with named axes; time is the axis called ``t``."""

    axes: tuple[str, ...]
    bounds: np.ndarray
    """The bounding box, shape (axes, 2)."""
    units: Mapping[str, str]

    def index(self, axis: str) -> int:
        """Return the position of an axis.

        Raises:
            UserError: there is no such axis.
        """
        if axis not in self.axes:
            raise UserError(f"no axis {axis!r}{did_you_mean(axis, self.axes)} (axes: {', '.join(self.axes)})")
        return self.axes.index(axis)

    def end(self, axis: str, value: float) -> int:
        """Return the end of an axis, 0 or 1, at which a value lies.

        Raises:
            UserError: it lies at neither.
        """
        low, high = self.bounds[self.index(axis)]
        for end, bound in enumerate((low, high)):
            if np.isclose(value, bound, rtol=1e-12, atol=1e-12 * (high - low)):
                return end
        raise UserError(f"a condition at {axis} = {value} matches no point; {axis} ends at {low} and {high}")

    @abstractmethod
    def interior(self) -> Part:
        """Return the points where the equations hold."""

    @abstractmethod
    def boundary(self, at: Mapping[str, float] | None) -> Part:
        """Return the boundary in space, or the piece of it where an axis has a value."""

    @abstractmethod
    def start(self) -> Part:
        """Return the domain at its first moment."""

    @abstractmethod
    def opposite(self, axis: str) -> Part:
        """Return the pairs of points at the two ends of an axis."""

    @abstractmethod
    def contains(self, points: np.ndarray) -> np.ndarray:
        """Return for points of shape (n, axes) whether each lies in the domain, boundary included."""


class Box(Domain):
    """A product of intervals, ``Box(x=(-1, 1), t=(0, 1))``.

    Args:
        units: the units of the axes that have any.
        axes: the interval (low, high) of each axis, in order.

    Raises:
        UserError: no axis, an interval that is empty or not finite, or a unit of an axis that is not there.
    """

    def __init__(self, units: Mapping[str, str] | None = None, **axes: tuple[float, float]) -> None:
        self.axes = tuple(axes)
        self.bounds = np.array([interval(name, ends) for name, ends in axes.items()])
        self.units = units or {}
        if not axes:
            raise UserError("expected at least one axis, such as Box(x=(0, 1)), got none")
        for name in self.units:
            self.index(name)

    def interior(self) -> "Faces":
        return Faces(self, ())

    def start(self) -> "Faces":
        if "t" not in self.axes:
            raise UserError(f"an initial condition needs an axis t (axes: {', '.join(self.axes)})")
        return Faces(self, ((self.index("t"), 0),))

    def boundary(self, at: Mapping[str, float] | None) -> "Faces":
        if at is None:
            faces = tuple((self.index(a), end) for a in space_axes(self.axes) for end in (0, 1))
            if not faces:
                raise UserError("a boundary condition matches no point: the domain has no axis but time")
            return Faces(self, faces)
        axis, value = one_place(at)
        return Faces(self, ((self.index(axis), self.end(axis, value)),))

    def opposite(self, axis: str) -> "Opposite":
        return Opposite(self, self.index(axis))

    def contains(self, points: np.ndarray) -> np.ndarray:
        slack = 1e-12 * (self.bounds[:, 1] - self.bounds[:, 0])
        inside = (points >= self.bounds[:, 0] - slack) & (points <= self.bounds[:, 1] + slack)
        return np.all(inside, axis=1)


@dataclass(frozen=True)
class Faces(Part):
    """Faces of a box, each an (axis, end) with end 0 or 1; no face at all means the interior.

    Args:
        box: the box.
        faces: the faces among which points are shared in turn.
    """

    box: Box
    faces: tuple[tuple[int, int], ...]

    def sample(self, n: int, generator: torch.Generator, method: Sampling, dtype: torch.dtype) -> Points:
        if not self.faces:
            return Points(_scale(self.box, unit_points(n, len(self.box.axes), generator, method, dtype)))
        count = math.ceil(n / len(self.faces))
        parts = [_face(self.box, axis, end, count, generator, method, dtype) for axis, end in self.faces]
        normals = {normal_name(a): self.box.index(a) for a in space_axes(self.box.axes)}
        extras = {name: [] for name in normals}
        for (axis, end), part in zip(self.faces, parts, strict=True):
            for name, along in normals.items():
                extras[name].append(torch.full_like(part[:, 0], 2.0 * end - 1.0 if axis == along else 0.0))
        points = Points(torch.cat(parts), {name: torch.cat(values) for name, values in extras.items()})
        return points if method == "grid" else points[_in_turn(len(self.faces), count, n).to(generator.device)]

    def measure(self) -> float:
        extents = np.ptp(self.box.bounds, axis=1)
        faces = [float(np.delete(extents, axis).prod()) for axis, _ in self.faces]
        return sum(faces) if faces else float(extents.prod())


@dataclass(frozen=True)
class Opposite(Part):
    """Pairs of points at the two ends of one axis of a box."""

    box: Box
    axis: int

    def sample(self, n: int, generator: torch.Generator, method: Sampling, dtype: torch.dtype) -> Points:
        low = _face(self.box, self.axis, 0, n, generator, method, dtype)
        high = low.clone()
        high[:, self.axis] = self.box.bounds[self.axis, 1]
        return Points(low, partner=high)

    def measure(self) -> float:
        return Faces(self.box, ((self.axis, 0),)).measure()


@dataclass(frozen=True)
class Scattered(Part):
    """Given points with observed values; sampling returns them all.

    Args:
        points: shape (n, axes).
        values: shape (n,).
    """

    points: np.ndarray
    values: np.ndarray

    def sample(self, n: int, generator: torch.Generator, method: Sampling, dtype: torch.dtype) -> Points:
        to = {"dtype": dtype, "device": generator.device}
        return Points(torch.as_tensor(self.points).to(**to), {"observed": torch.as_tensor(self.values).to(**to)})

    def measure(self) -> float:
        return float(len(self.points))


def unit_points(n: int, dimension: int, generator: torch.Generator, method: Sampling, dtype: torch.dtype) -> Tensor:
    """Return n points of the unit cube, shape (n, dimension); a grid has the nearest number of points it can.

    Args:
        method: uniform, sobol (scrambled), lhs (Latin hypercube) or grid (a tensor grid, ends included).
    """
    device = generator.device
    if dimension == 0:
        return torch.zeros(n, 0, dtype=dtype, device=device)
    if method == "uniform":
        return torch.rand(n, dimension, generator=generator, dtype=dtype, device=device)
    if method == "grid":
        per_axis = max(2, round(n ** (1 / dimension)))
        line = torch.linspace(0, 1, per_axis, dtype=dtype, device=device)
        return torch.cartesian_prod(*[line] * dimension).reshape(-1, dimension)
    seed = int(torch.randint(2**31, (1,), generator=generator, device=device))
    engine = (qmc.Sobol if method == "sobol" else qmc.LatinHypercube)(dimension, rng=np.random.default_rng(seed))
    if isinstance(engine, qmc.Sobol):
        unit = engine.random_base2(max(n - 1, 1).bit_length())[:n]
    else:
        unit = engine.random(n)
    return torch.as_tensor(unit, dtype=dtype, device=device)


def interval(name: str, ends: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis.

    Raises:
        UserError: not two finite numbers, the first one smaller.
    """
    if len(ends) != 2 or not np.isfinite(ends).all() or ends[0] >= ends[1]:
        raise UserError(f"expected an interval (low, high) with low < high for axis {name}, got {tuple(ends)}")
    return float(ends[0]), float(ends[1])


def one_place(at: Mapping[str, float]) -> tuple[str, float]:
    """Return the axis and the value of a place on the boundary.

    Raises:
        UserError: not exactly one axis.
    """
    if len(at) != 1:
        raise UserError(f"a condition expects `at` with one axis and its end, such as {{'x': 0.0}}, got {dict(at)}")
    ((axis, value),) = at.items()
    return axis, float(value)


def _face(
    box: Box, axis: int, end: int, n: int, generator: torch.Generator, method: Sampling, dtype: torch.dtype
) -> Tensor:
    unit = unit_points(n, len(box.axes) - 1, generator, method, dtype)
    whole = torch.cat([unit[:, :axis], unit.new_zeros(len(unit), 1), unit[:, axis:]], dim=1)
    points = _scale(box, whole)
    points[:, axis] = box.bounds[axis, end]
    return points


def _in_turn(parts: int, count: int, n: int) -> Tensor:
    """Return the numbers of n rows that take one part of ``count`` rows after the other in turn."""
    return torch.arange(parts * count).reshape(parts, count).T.reshape(-1)[:n]


def _scale(box: Box, unit: Tensor) -> Tensor:
    bounds = torch.as_tensor(box.bounds, dtype=unit.dtype, device=unit.device)
    return bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * unit
