"""Solids of constructive geometry, by ``deepxde.geometry``, which is imported here alone and only when used.

``rectangle((0, 0), (1, 1)) - disk((0.5, 0.5), 0.2)`` is a plate with a hole: solids combine by ``|`` (union),
``&`` (intersection) and ``-`` (difference).
"""

import contextlib
import functools
import io
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from sciml.errors import UserError

Solid = Any
"""A ``deepxde.geometry.Geometry``."""


def rectangle(low: Sequence[float], high: Sequence[float]) -> Solid:
    """Return a rectangle, or in three dimensions a cuboid, between two opposite corners."""
    with deepxde_geometry() as geometry:
        return (geometry.Rectangle if len(low) == 2 else geometry.Cuboid)(list(low), list(high))


def disk(center: Sequence[float], radius: float) -> Solid:
    """Return a disk, or in three dimensions a ball."""
    with deepxde_geometry() as geometry:
        return (geometry.Disk if len(center) == 2 else geometry.Sphere)(list(center), radius)


def polygon(vertices: Sequence[tuple[float, float]]) -> Solid:
    """Return a polygon with vertices in either sense of rotation.

    Raises:
        UserError: fewer than three vertices.
    """
    corners = np.asarray(vertices, dtype=float)
    if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
        raise UserError(f"a polygon expects at least three vertices (x, y), got {corners.shape}")
    with deepxde_geometry() as geometry:
        if len(corners) == 3:
            return geometry.Triangle(*corners)
        if geometry.Rectangle.is_valid(corners):
            return geometry.Rectangle(corners.min(axis=0), corners.max(axis=0))
        return geometry.Polygon(corners)


def leaves(solid: Solid) -> list[Solid]:
    """Return the solids that a solid combines."""
    with deepxde_geometry() as geometry:
        combined = isinstance(solid, (geometry.CSGUnion, geometry.CSGDifference, geometry.CSGIntersection))
    return [*leaves(solid.geom1), *leaves(solid.geom2)] if combined else [solid]


def outline(solid: Solid, density: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return random points on the boundary of a solid that is no combination, and normals of either sense.

    Args:
        density: points for each unit of length, or of area in three dimensions.
        rng: from which they are drawn.

    Raises:
        UserError: neither a rectangle, a disk, a polygon, a cuboid nor a ball.
    """
    with deepxde_geometry(int(rng.integers(2**31))) as geometry:
        match solid:
            case geometry.Rectangle():
                (left, low), (right, high) = solid.xmin, solid.xmax
                return _edges(np.array([(left, low), (right, low), (right, high), (left, high)]), density, rng)
            case geometry.Triangle():
                return _edges(np.array([solid.x1, solid.x2, solid.x3]), density, rng)
            case geometry.Polygon():
                return _edges(solid.vertices, density, rng)
            case geometry.Disk():
                size = 2 * np.pi * solid.radius
            case geometry.Sphere():
                size = 4 * np.pi * solid.radius**2
            case geometry.Cuboid():
                size = solid.area
            case _:
                raise UserError(f"expected rectangles, disks and polygons, combined; got {solid.idstr}")
        points = solid.random_boundary_points(max(1, round(density * size)))
        return points, solid.boundary_normal(points)


def _edges(corners: np.ndarray, density: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    steps = np.roll(corners, -1, axis=0) - corners
    lengths = np.linalg.norm(steps, axis=1)
    counts = np.maximum(1, np.round(density * lengths)).astype(int)
    edge = np.repeat(np.arange(len(corners)), counts)
    points = corners[edge] + rng.random((len(edge), 1)) * steps[edge]
    return points, np.stack([steps[:, 1], -steps[:, 0]], axis=1)[edge] / lengths[edge, None]


@contextlib.contextmanager
def deepxde_geometry(seed: int | None = None) -> Iterator[Any]:
    """Yield ``deepxde.geometry`` in double precision, its global state as it was before afterwards.

    Args:
        seed: of numpy's global generator, from which deepxde draws.
    """
    geometry, real, _ = _load()
    precision, state = real.precision, np.random.get_state()  # noqa: NPY002
    real.set_float64()
    if seed is not None:
        np.random.seed(seed)  # noqa: NPY002
    try:
        with _silence():
            yield geometry
    finally:
        np.random.set_state(state)  # noqa: NPY002
        {16: real.set_float16, 32: real.set_float32, 64: real.set_float64}[precision]()


@functools.cache
def _load() -> tuple[Any, Any, Any]:
    """Import deepxde alone: otherwise it prints, asks, writes at home, moves to a GPU, and refuses MPI."""
    device = torch.get_default_device()
    cache = tempfile.TemporaryDirectory(prefix="sciml-", ignore_cleanup_errors=True)
    with (
        _environment(DDE_BACKEND="pytorch", OMPI_COMM_WORLD_SIZE=None, XDG_CACHE_HOME=cache.name),
        _silence(),
    ):
        from deepxde import config, geometry
    if torch.get_default_device() != device:
        torch.set_default_device(None if device.type == "cpu" else device)
    return geometry, config.real, cache


@contextlib.contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of numpy, met by deepxde
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
