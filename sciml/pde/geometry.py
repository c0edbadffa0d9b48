"""Domains of constructive solid geometry, with or without time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciml.errors import UserError
from sciml.pde.domains import Domain, Part, Points, Sampling, interval, one_place, unit_points
from sciml.pde.fields import normal_name
from sciml.pde.solids import Solid, deepxde_geometry, leaves, outline
from sciml.pde.subset import MOST_CANDIDATES, Subset

STEP = 1e-6
"""How far on either side of a boundary it is asked what is inside, relative to the size of the shape."""


class Shape(Domain):
    """A solid in space, or in space and time: the axes of space first, then ``t``.

    Args:
        solid: of ``sciml.pde.solids``, such as ``rectangle((0, 0), (1, 1)) - disk((0.5, 0.5), 0.2)``.
        axes: the names of the axes of space.
        t: the interval of time, if there is time.
        units: the units of the axes that have any.

    Raises:
        UserError: another number of axes than the solid has, or an empty interval of time.
    """

    def __init__(
        self,
        solid: Solid,
        axes: Sequence[str] = ("x", "y"),
        t: tuple[float, float] | None = None,
        units: Mapping[str, str] | None = None,
    ) -> None:
        if len(axes) != solid.dim or "t" in axes:
            raise UserError(f"expected {solid.dim} axes of space for {solid.idstr}, got {', '.join(axes)}")
        self.solid = solid
        self.space = tuple(axes)
        self.axes = (*self.space, *(() if t is None else ("t",)))
        time = () if t is None else (interval("t", t),)
        self.bounds = np.array([*np.stack(solid.bbox, axis=1).astype(float), *time])
        self.units = units or {}
        for name in self.units:
            self.index(name)

    def interior(self) -> "Region":
        return Region(self)

    def start(self) -> "Region":
        if "t" not in self.axes:
            raise UserError("an initial condition needs time; give the shape an interval, t=(0, 1)")
        return Region(self, (self.index("t"), 0))

    def boundary(self, at: Mapping[str, float] | None) -> Part:
        if at is None:
            return Surface(self)
        axis, value = one_place(at)
        column = self.index(axis)
        if axis == "t":
            return Region(self, (column, self.end(axis, value)))
        slack = 1e-9 * (self.bounds[column, 1] - self.bounds[column, 0])
        return Subset(Surface(self), self.axes, lambda at: np.abs(at[axis] - value) <= slack)

    def opposite(self, axis: str) -> Part:
        raise UserError(f"a periodic condition along {axis} needs a Box; a Shape has no opposite ends")

    def contains(self, points: np.ndarray) -> np.ndarray:
        space = points[:, : len(self.space)]
        with deepxde_geometry():
            inside = self.solid.inside(space) | self.solid.on_boundary(space)
        if "t" in self.axes:
            low, high = self.bounds[-1]
            slack = 1e-12 * (high - low)
            inside &= (points[:, -1] >= low - slack) & (points[:, -1] <= high + slack)
        return inside


@dataclass(frozen=True)
class Region(Part):
    """The inside of a shape, at all times or at one end of time.

    Args:
        shape: the shape.
        fixed: the axis of time and its end, 0 or 1.
    """

    shape: Shape
    fixed: tuple[int, int] | None = None

    def sample(self, n: int, generator: torch.Generator, method: Sampling, dtype: torch.dtype) -> Points:
        """Return n points, those of a sequence over the bounding box that lie inside; about n of a grid."""
        candidates = n
        while True:
            found, drawn = self._inside(candidates, generator, method, dtype)
            enough = 0.7 * n if method == "grid" else n
            if len(found) >= enough or candidates >= MOST_CANDIDATES:
                break
            share = max(len(found) / drawn, 0.1 / drawn)
            candidates = min(int(1.2 * n / share) + 1, MOST_CANDIDATES)
        if not len(found):
            raise UserError(f"a condition matches no point: none of {candidates} lies inside the shape")
        return Points(found if method == "grid" else found[:n])

    def measure(self) -> float:
        """Return the share of a Sobol sequence of 131 072 points that lies inside, times the bounding box's volume."""
        generator = torch.Generator().manual_seed(0)
        found, drawn = self._inside(MOST_CANDIDATES, generator, "sobol", torch.float64)
        extents = np.ptp(self.shape.bounds, axis=1)
        free = extents if self.fixed is None else np.delete(extents, self.fixed[0])
        return float(free.prod()) * len(found) / drawn

    def _inside(self, n: int, generator: torch.Generator, method: Sampling, dtype: torch.dtype) -> tuple[Tensor, int]:
        bounds = torch.as_tensor(self.shape.bounds, dtype=torch.float64, device=generator.device)
        free = len(bounds) - (self.fixed is not None)
        unit = unit_points(n, free, generator, method, torch.float64)
        points = bounds[:free, 0] + (bounds[:free, 1] - bounds[:free, 0]) * unit
        if self.fixed is not None:
            points = torch.cat([points, bounds[self.fixed].expand(len(points), 1)], dim=1)
        space = points[:, : len(self.shape.space)].cpu().numpy()
        with deepxde_geometry():
            mask = self.shape.solid.inside(space)
        return points[torch.as_tensor(mask, device=points.device)].to(dtype), len(points)


@dataclass(frozen=True)
class Surface(Part):
    """The boundary of a shape in space, with outward normals, at all times.

    Points lie evenly over the boundaries of the solids that a shape combines. Those count that have the
    inside on one side and the outside on the other: that gives the normal its sense and copes with edges that
    coincide.
    """

    shape: Shape

    def sample(self, n: int, generator: torch.Generator, method: Sampling, dtype: torch.dtype) -> Points:
        """Return n points at random, whatever the method: a combined boundary has no even sequence."""
        seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
        rng = np.random.default_rng(seed)
        parts = leaves(self.shape.solid)
        density = n / self.shape.solid.diam ** (len(self.shape.space) - 1)
        while True:
            drawn = [outline(part, density, rng) for part in parts]
            points, normals = (np.concatenate(arrays) for arrays in zip(*drawn, strict=True))
            side = self._side(points, normals)
            if np.count_nonzero(side) >= n or len(points) >= MOST_CANDIDATES:
                break
            density *= 2
        chosen = rng.permutation(np.flatnonzero(side))[:n]
        if not len(chosen):
            raise UserError("a boundary condition matches no point: the shape has no boundary")
        return self._points(points[chosen], (normals * side[:, None])[chosen], generator, method, dtype)

    def measure(self) -> float:
        """Return the share of 131 072 points on the combined solids' boundaries that lies on this, times their size."""
        density = MOST_CANDIDATES / self.shape.solid.diam ** (len(self.shape.space) - 1)
        rng = np.random.default_rng(0)
        drawn = [outline(part, density, rng) for part in leaves(self.shape.solid)]
        time = 1.0 if "t" not in self.shape.axes else float(np.ptp(self.shape.bounds[-1]))
        return time * sum(np.count_nonzero(self._side(points, normals)) for points, normals in drawn) / density

    def _points(
        self,
        points: np.ndarray,
        normals: np.ndarray,
        generator: torch.Generator,
        method: Sampling,
        dtype: torch.dtype,
    ) -> Points:
        space, outward = (torch.as_tensor(a).to(dtype=dtype, device=generator.device) for a in (points, normals))
        extras = dict(zip(map(normal_name, self.shape.space), outward.T, strict=True))
        if "t" not in self.shape.axes:
            return Points(space, extras)
        low, high = self.shape.bounds[-1]
        spread = unit_points(len(space), 1, generator, "uniform" if method == "grid" else method, dtype)
        return Points(torch.cat([space, low + (high - low) * spread], dim=1), extras)

    def _side(self, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        """Return 1 where a normal points out of the shape, -1 where into it, 0 where there is no boundary."""
        step = STEP * self.shape.solid.diam
        with deepxde_geometry():
            inner, outer = (self.shape.solid.inside(points + s * step * normals).astype(int) for s in (-1, 1))
        return inner - outer
