"""Where equations hold: boxes of any dimension, with or without time, and the parts of their boundary."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from scipy.stats import qmc
from torch import Tensor

from sciml.errors import UserError, did_you_mean
from sciml.fields import normal_name, space_axes

Sampling = Literal["uniform", "sobol", "lhs", "grid"]


@dataclass(frozen=True)
class Points:
    """Points of a part of a domain.

    Args:
        coordinates: shape (n, axes).
        extras: further values per point by name, each of shape (n,): components of the outward normal, observed values.
        partner: shape (n, axes); where a condition ties two points (periodicity), the other one.
    """

    coordinates: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    partner: Tensor | None = None

    def __len__(self) -> int:
        return len(self.coordinates)

    def arguments(self, axes: Sequence[str]) -> dict[str, Tensor]:
        """Return coordinates and extras by name, as a relation takes them."""
        return {a: self.coordinates[:, i] for i, a in enumerate(axes)} | dict(self.extras)


class Part(ABC):
    """A part of a domain from which points can be drawn."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator, method: Sampling, dtype: torch.dtype) -> Points:
        """Return about n points on the generator's device."""


class Domain(ABC):
    """A region of space, or of space and time, with named axes; time is the axis called ``t``."""

    axes: tuple[str, ...]
    bounds: np.ndarray
    """The bounding box, shape (axes, 2)."""
    units: Mapping[str, str]

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
        UserError: an interval that is empty or not finite.
    """

    def __init__(self, units: Mapping[str, str] | None = None, **axes: tuple[float, float]) -> None:
        for name, (low, high) in axes.items():
            if not (np.isfinite([low, high]).all() and low < high):
                raise UserError(f"expected an interval low < high for axis {name}, got ({low}, {high})")
        self.axes = tuple(axes)
        self.bounds = np.array(list(axes.values()), dtype=float)
        self.units = units or {}

    def index(self, axis: str) -> int:
        """Return the position of an axis.

        Raises:
            UserError: there is no such axis.
        """
        if axis not in self.axes:
            raise UserError(f"no axis {axis!r}{did_you_mean(axis, self.axes)} (axes: {', '.join(self.axes)})")
        return self.axes.index(axis)

    def interior(self) -> "Faces":
        return Faces(self, ())

    def start(self) -> "Faces":
        return Faces(self, ((self.index("t"), 0),))

    def boundary(self, at: Mapping[str, float] | None) -> "Faces":
        if at is None:
            faces = tuple((self.index(a), end) for a in space_axes(self.axes) for end in (0, 1))
        else:
            faces = tuple((self.index(a), self._end(a, value)) for a, value in at.items())
        return Faces(self, faces)

    def _end(self, axis: str, value: float) -> int:
        low, high = self.bounds[self.index(axis)]
        for end, bound in enumerate((low, high)):
            if np.isclose(value, bound, rtol=1e-12, atol=1e-12 * (high - low)):
                return end
        raise UserError(f"a condition at {axis} = {value} matches no point of the boundary; {axis} ends at {low} and {high}")

    def opposite(self, axis: str) -> "Opposite":
        return Opposite(self, self.index(axis))

    def contains(self, points: np.ndarray) -> np.ndarray:
        slack = 1e-12 * (self.bounds[:, 1] - self.bounds[:, 0])
        return ((points >= self.bounds[:, 0] - slack) & (points <= self.bounds[:, 1] + slack)).all(axis=1)


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
        unit = unit_points(n, len(self.box.axes), generator, method, dtype)
        extras: dict[str, Tensor] = {}
        if self.faces:
            which = torch.arange(len(unit), device=unit.device) % len(self.faces)
            extras = {normal_name(a): torch.zeros(len(unit), dtype=dtype, device=unit.device) for a in space_axes(self.box.axes)}
            for k, (axis, end) in enumerate(self.faces):
                unit[which == k, axis] = end
                name = normal_name(self.box.axes[axis])
                if name in extras:
                    extras[name][which == k] = 2.0 * end - 1.0
        return Points(_scale(self.box, unit), extras)


@dataclass(frozen=True)
class Opposite(Part):
    """Pairs of points at the two ends of one axis of a box."""

    box: Box
    axis: int

    def sample(self, n: int, generator: torch.Generator, method: Sampling, dtype: torch.dtype) -> Points:
        unit = unit_points(n, len(self.box.axes), generator, method, dtype)
        low, high = unit.clone(), unit.clone()
        low[:, self.axis], high[:, self.axis] = 0.0, 1.0
        return Points(_scale(self.box, low), partner=_scale(self.box, high))


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


def unit_points(n: int, dimension: int, generator: torch.Generator, method: Sampling, dtype: torch.dtype) -> Tensor:
    """Return n points of the unit cube, shape (n, dimension); a grid has the nearest number of points it can.

    Args:
        method: uniform, sobol (scrambled), lhs (Latin hypercube) or grid (a tensor grid that includes the ends).
    """
    device = generator.device
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


def _scale(box: Box, unit: Tensor) -> Tensor:
    bounds = torch.as_tensor(box.bounds, dtype=unit.dtype, device=unit.device)
    return bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * unit
