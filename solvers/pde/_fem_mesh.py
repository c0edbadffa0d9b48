"""Triangulations of boxes and shapes: circles stay round as they are refined, corners can be graded."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from sciml.errors import missing
from sciml.pde.domains import Box, Domain, Faces, Part
from sciml.pde.geometry import Shape, Surface
from sciml.pde.solids import Solid, deepxde_geometry, leaves
from sciml.pde.subset import Subset

FINEST = 1e-9
"""The smallest triangle, relative to the domain."""
ON_CIRCLE = 1e-9
ROUND = 500
"""Parabolas are off an arc of angle 2a by about ``a^4 / ROUND`` of the radius, and right on average."""
FEWEST = 12
"""Edges around a circle."""
REENTRANT = 1.02 * np.pi


@dataclass(frozen=True)
class Circle:
    """A circle on which a boundary may lie."""

    center: np.ndarray
    radius: float

    def holds(self, points: np.ndarray) -> np.ndarray:
        """Return which points, shape (2, n), lie on it."""
        return abs(np.linalg.norm(points.T - self.center, axis=1) - self.radius) < ON_CIRCLE * self.radius

    def nearest(self, points: np.ndarray) -> np.ndarray:
        away = points.T - self.center
        return (self.center + self.radius * away / np.linalg.norm(away, axis=1, keepdims=True)).T

    def middle(self, chords: np.ndarray) -> np.ndarray:
        """Return the middle of the parabola that best replaces each arc, given middles (2, n) of the chords.

        An arc of angle 2a whose parabola goes through its middle is off by ``a^4/60`` of the radius on average; one
        that is ``a^4/40`` higher encloses the same area, and what is left averages to zero along the edge.
        """
        half = np.arccos(np.minimum(np.linalg.norm(chords.T - self.center, axis=1) / self.radius, 1.0))
        return self.center[:, None] + (self.nearest(chords) - self.center[:, None]) * (1 + half**4 / 40)


@dataclass(frozen=True)
class Triangulation:
    """A mesh of straight triangles, and the circles on which its boundary vertices lie.

    Args:
        straight: a ``skfem.MeshTri1``.
        circles: of the domain.
    """

    straight: Any
    circles: tuple[Circle, ...]

    @property
    def size(self) -> float:
        return float(np.ptp(self.straight.p, axis=1).max())

    @cached_property
    def arcs(self) -> list[tuple[np.ndarray, Circle]]:
        """The boundary edges that are arcs, by circle."""
        edges = self.straight.boundary_facets()
        ends = self.straight.p[:, self.straight.facets[:, edges]]
        return [(edges[c.holds(ends[:, 0]) & c.holds(ends[:, 1])], c) for c in self.circles]

    @cached_property
    def curved(self) -> Any:
        """The mesh with quadratic arcs, a ``skfem.MeshTri2``, or the straight one where nothing is round."""
        from skfem import MeshTri2

        if not any(len(edges) for edges, _ in self.arcs):
            return self.straight
        mesh = MeshTri2.from_mesh(self.straight)
        places = np.array(mesh.doflocs)
        for edges, circle in self.arcs:
            middle = np.asarray(mesh.dofs.facet_dofs)[0, edges]
            places[:, middle] = circle.middle(places[:, middle])
        return replace(mesh, doflocs=places)

    def refined(self, triangles: np.ndarray) -> "Triangulation":
        """Return the mesh with some triangles quartered and others cut as that needs."""
        finer = self.straight.refined(triangles)
        places = finer.p.copy()
        added = np.arange(self.straight.p.shape[1], places.shape[1])
        for edges, circle in self.arcs:
            if len(edges) and len(added):
                middle = self.straight.p[:, self.straight.facets[:, edges]].mean(axis=1)
                gap, which = map(np.asarray, KDTree(places[:, added].T).query(middle.T))
                moved = added[which[gap < FINEST * self.size * 1e-3]]
                places[:, moved] = circle.nearest(places[:, moved])
        return Triangulation(replace(finer, doflocs=places), self.circles)

    def corners(self) -> list[tuple[np.ndarray, float]]:
        """Return the reentrant corners and the exponent of the singularity of a potential there, π over the angle."""
        p, t = self.straight.p, self.straight.t
        angle = np.zeros(p.shape[1])
        for k in range(3):
            one, other = (p[:, t[(k + j) % 3]] - p[:, t[k]] for j in (1, 2))
            cross, dot = one[0] * other[1] - one[1] * other[0], (one * other).sum(axis=0)
            np.add.at(angle, t[k], np.arctan2(abs(cross), dot))
        sharp = np.isin(np.arange(p.shape[1]), self.straight.boundary_nodes()) & (angle > REENTRANT)
        for circle in self.circles:
            sharp &= ~circle.holds(p)
        return [(p[:, k], float(np.pi / angle[k])) for k in np.flatnonzero(sharp)]

    def graded(self, point: np.ndarray, size: float) -> "Triangulation":
        """Return the mesh with the triangles at a vertex refined to a size."""
        mesh, now = self, np.inf
        while now > max(size, FINEST * self.size):
            p, t = mesh.straight.p, mesh.straight.t
            vertex = np.argmin(np.linalg.norm(p.T - point, axis=1))
            touching = np.flatnonzero((t == vertex).any(axis=0))
            now = np.linalg.norm(p[:, t[:, touching]] - p[:, [vertex]][:, None], axis=0).max()
            if now > size:
                mesh = mesh.refined(touching)
        return mesh

    def boundary(self, part: Part, axes: Sequence[str]) -> np.ndarray:
        """Return the boundary edges whose middle lies in a part of the boundary."""
        edges = self.straight.boundary_facets()
        middle = self.straight.p[:, self.straight.facets[:, edges]].mean(axis=1)
        for arc, circle in self.arcs:
            on = np.isin(edges, arc)
            middle[:, on] = circle.nearest(middle[:, on])
        return edges[holds(part, middle, axes)]


def holds(part: Part, points: np.ndarray, axes: Sequence[str]) -> np.ndarray:
    """Return which points of the boundary, shape (2, n), lie in a part of it."""
    match part:
        case Surface():
            return np.ones(points.shape[1], dtype=bool)
        case Faces():
            bounds = part.box.bounds
            slack = 1e-9 * np.ptp(bounds, axis=1)
            on = [abs(points[i] - bounds[i, end]) <= slack[i] for i, end in part.faces]
            return np.any(on, axis=0)
        case Subset():
            named: Mapping[str, np.ndarray] = dict(zip(axes, points, strict=True))
            return holds(part.whole, points, axes) & np.asarray(part.holds(named), dtype=bool)
    raise ValueError(f"a condition holds on a {type(part).__name__}, which is no part of the boundary")


def triangulate(domain: Domain, across: int, roundness: float) -> Triangulation:
    """Return a coarse mesh of a domain in two dimensions.

    Args:
        across: about so many triangles along the longer side.
        roundness: how far arcs may be off, relative to their radius.
    """
    from skfem import MeshTri

    if isinstance(domain, Box):
        extent = np.ptp(domain.bounds, axis=1)
        counts = np.maximum(2, np.ceil(across * extent / extent.max() - 1e-9)).astype(int)
        lines = [np.linspace(*ends, num=2 * (n // 2) + 1) for ends, n in zip(domain.bounds, counts, strict=True)]
        return Triangulation(_crossed(*lines), ())
    assert isinstance(domain, Shape)
    around = max(FEWEST, math.ceil(np.pi / (ROUND * roundness) ** 0.25))
    vertices, triangles = _by_gmsh(domain.solid, float(np.ptp(domain.bounds, axis=1).max()) / across, around)
    with deepxde_geometry() as geometry:
        round_ = [s for s in leaves(domain.solid) if isinstance(s, geometry.Disk)]
    circles = tuple(Circle(np.asarray(s.center, dtype=float), float(s.radius)) for s in round_)
    return Triangulation(MeshTri(vertices, triangles), circles)


def _crossed(x: np.ndarray, y: np.ndarray) -> Any:
    """Return each rectangle cut along a diagonal, in turns, so that no corner belongs to one triangle alone."""
    from skfem import MeshTri

    index = np.arange(len(x) * len(y)).reshape(len(x), len(y))
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[:-1, 1:], index[1:, 1:]
    odd = np.add.outer(np.arange(len(x) - 1), np.arange(len(y) - 1)) % 2 == 1
    rising = [np.stack([a, b, d]), np.stack([a, c, d])]
    falling = [np.stack([a, b, c]), np.stack([b, c, d])]
    triangles = np.concatenate([t[:, ~odd] for t in rising] + [t[:, odd] for t in falling], axis=1)
    places = np.stack([g.ravel() for g in np.meshgrid(x, y, indexing="ij")])
    return MeshTri(places, np.ascontiguousarray(triangles))


def _by_gmsh(solid: Solid, size: float, around: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (2, n) and triangles (3, m) of a solid; Gmsh cuts and meshes it."""
    try:
        import gmsh
    except ImportError:
        raise missing("a mesh of this shape", "gmsh", "fem") from None
    own = not gmsh.isInitialized()
    if own:
        gmsh.initialize(interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.model.add("shape")
        _build(gmsh.model.occ, solid)
        gmsh.model.occ.synchronize()
        gmsh.option.setNumber("Mesh.MeshSizeMax", size)
        gmsh.option.setNumber("Mesh.MeshSizeFromCurvature", around)
        gmsh.model.mesh.generate(2)
        tags, places, _ = gmsh.model.mesh.getNodes()
        _, _, corners = gmsh.model.mesh.getElements(2)
        gmsh.model.remove()
    finally:
        if own:
            gmsh.finalize()
    used, triangles = np.unique(np.asarray(corners[0], dtype=int), return_inverse=True)
    order = np.argsort(tags)
    rows = order[np.searchsorted(tags[order], used)]
    return np.reshape(places, (-1, 3))[rows, :2].T.copy(), triangles.reshape(-1, 3).T.copy()


def _build(occ: Any, solid: Solid) -> list[tuple[int, int]]:
    """Build a solid in Gmsh's kernel and return its pieces."""
    with deepxde_geometry() as geometry:
        combine = {
            geometry.CSGUnion: occ.fuse,
            geometry.CSGDifference: occ.cut,
            geometry.CSGIntersection: occ.intersect,
        }
        match solid:
            case geometry.Rectangle():
                (x, y), (width, height) = solid.xmin, np.subtract(solid.xmax, solid.xmin)
                return [(2, occ.addRectangle(x, y, 0, width, height))]
            case geometry.Disk():
                return [(2, occ.addDisk(*solid.center, 0, solid.radius, solid.radius))]
            case geometry.Triangle():
                corners = (solid.x1, solid.x2, solid.x3)
            case geometry.Polygon():
                corners = solid.vertices
            case _:
                return combine[type(solid)](_build(occ, solid.geom1), _build(occ, solid.geom2))[0]
    points = [occ.addPoint(x, y, 0) for x, y in corners]
    lines = [occ.addLine(a, b) for a, b in zip(points, points[1:] + points[:1], strict=True)]
    return [(2, occ.addPlaneSurface([occ.addCurveLoop(lines)]))]
