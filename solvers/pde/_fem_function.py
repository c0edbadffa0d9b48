"""Fields on a triangulation as functions of any points."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from scipy.spatial import KDTree

from ._fem_space import element

BLOCK = 1 << 14
NEWTON = 8
"""Steps to invert the map of a curved triangle; the arc bends little, so that four suffice."""


class MeshFunction:
    """Piecewise polynomials on triangles, of which some have a curved side.

    Args:
        mesh: a ``skfem.MeshTri1``, or a ``MeshTri2`` with curved sides.
        values: by field, the nodal values in each triangle, shape (triangles, functions).
        degree: by field.
    """

    def __init__(self, mesh: Any, values: Mapping[str, np.ndarray], degree: Mapping[str, int]) -> None:
        self.mesh, self.values, self.degree = mesh, values, degree

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the fields at points of shape (n, 2), shape (n, fields)."""
        blocks = [self._at(points[k : k + BLOCK].T) for k in range(0, len(points), BLOCK)]
        return np.concatenate(blocks) if blocks else np.zeros((0, len(self.values)))

    def state(self) -> dict[str, np.ndarray]:
        """Return the arrays that make the function again."""
        curved = self.mesh.elem().maxdeg > 1
        nodes = {"nodes": self.mesh.doflocs, "triangles": self.mesh.t, "curved": np.array(curved)}
        return nodes | dict(self.values)

    @classmethod
    def of_state(cls, fields: tuple[str, ...], state: Mapping[str, np.ndarray]) -> "MeshFunction":
        from skfem import MeshTri1, MeshTri2

        kind = MeshTri2 if state["curved"] else MeshTri1
        mesh = kind(state["nodes"], state["triangles"].astype(np.int32), sort_t=False)
        degree = {f: (3, 6, 10, 15).index(state[f].shape[1]) + 1 for f in fields}
        return cls(mesh, {f: state[f] for f in fields}, degree)

    @cached_property
    def _finder(self) -> Any:
        from matplotlib.tri import Triangulation

        x, y = self.mesh.p[:, : self.mesh.t.max() + 1]
        return Triangulation(x, y, self.mesh.t.T).get_trifinder()

    @cached_property
    def _centers(self) -> KDTree:
        return KDTree(self.mesh.p[:, self.mesh.t].mean(axis=1).T)

    def _at(self, points: np.ndarray) -> np.ndarray:
        cells = np.asarray(self._finder(*points))
        lost = cells < 0  # between an arc and its chord, or outside by rounding
        cells[lost] = self._centers.query(points[:, lost].T)[1]
        local = self._invert(points, cells)
        columns = []
        for f, values in self.values.items():
            shape = element(self.degree[f])
            functions = np.stack([shape.lbasis(local, n)[0] * np.ones(len(cells)) for n in range(values.shape[1])])
            columns.append((values[cells].T * functions).sum(axis=0))
        return np.stack(columns, axis=1)

    def _invert(self, points: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Return the coordinates in the reference triangle, shape (2, n)."""
        mapping, at = self.mesh.mapping(), points[:, :, None]
        local = np.full(at.shape, 1 / 3)
        for _ in range(1 if self.mesh.affine else NEWTON):
            step = np.einsum("ijkl,jkl->ikl", mapping.invDF(local, cells), at - mapping.F(local, cells))
            local = local + step
        return local[:, :, 0]
