"""Lagrange triangles for a form: spaces, boundary values, the error indicator."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from sciml.errors import SolveError

from ._fem_form import Form, Natural
from ._fem_mesh import Triangulation
from ._fem_system import Quadrature, System, boundary_value

JUMP = 1e-8
"""Boundary values at one place differ where they are further apart than this, relative to the greatest."""


class Space(System):
    """A form on a mesh.

    Args:
        form: the weak form.
        mesh: the triangulation.
        degree: of the elements; one less for fields without second derivatives.

    Raises:
        SolveError: a part of the boundary has no condition, or one that gives no flux.
    """

    def __init__(self, form: Form, mesh: Triangulation, degree: int) -> None:
        self.mesh = mesh
        self.degree = {f: degree if f in form.second else max(1, degree - 1) for f in form.fields}
        self.bases = {f: _basis(mesh.curved, d, 3 * degree - 1) for f, d in self.degree.items()}
        ends = np.cumsum([0, *(b.N for b in self.bases.values())]).tolist()
        self.start = dict(zip(form.fields, ends, strict=False))
        given, self.clashes = self._essential(form, ends[-1])
        inside, edges = self._quadrature(self.bases), list(self._natural(form, 3 * degree))
        super().__init__(form, inside, edges, given, ends[-1])

    def indicator(self, y: np.ndarray) -> np.ndarray:
        """Return for each triangle the part of the solution that only the highest degree represents, squared.

        In L2 and relative to each field; that of a field of lower degree is multiplied by the triangle's size, as
        the slopes with which it is balanced would be.
        """
        weights = self.inside.weights
        total = np.zeros(len(weights))
        for f, basis in self.bases.items():
            shapes = self.inside.shapes[f][:, :, 0]
            local = y[self.inside.dofs[f]]
            lower, values = _lower(basis, self.degree[f])
            surplus = np.einsum("en,enq->eq", local, shapes) - local @ values.T @ lower
            norm = (np.einsum("en,enq->eq", local, shapes) ** 2 * weights).sum()
            share = (surplus**2 * weights).sum(axis=1) / max(norm, 1e-300)
            total += share if f in self.form.second else share * weights.sum(axis=1) / self.mesh.size**2
        return total

    @cached_property
    def local(self) -> dict[str, np.ndarray]:
        """The numbers of each field's unknowns by triangle, shape (triangles, functions)."""
        return {f: self.inside.dofs[f] for f in self.form.fields}

    def _quadrature(self, bases: Mapping[str, Any]) -> Quadrature:
        first = next(iter(bases.values()))
        cells, q = first.dx.shape
        shapes: dict[int, np.ndarray] = {}
        for f, basis in bases.items():
            if self.degree[f] not in shapes:
                stacked = np.empty((cells, len(basis.basis), 3, q))
                for n, (function, *_) in enumerate(basis.basis):
                    stacked[:, n, 0] = np.broadcast_to(function, (cells, q))
                    stacked[:, n, 1:] = np.moveaxis(np.broadcast_to(function.grad, (2, cells, q)), 0, 1)
                shapes[self.degree[f]] = stacked
        dofs = {f: basis.element_dofs.T.astype(int) + self.start[f] for f, basis in bases.items()}
        normals = getattr(first, "normals", None)
        return Quadrature(
            np.asarray(first.global_coordinates()),
            first.dx,
            {f: shapes[self.degree[f]] for f in bases},
            dofs,
            None if normals is None else np.asarray(normals),
        )

    def _essential(self, form: Form, size: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Return the unknowns that have a value and that value; and places where conditions disagree, (n, 2)."""
        value, set_by = np.full(size, np.nan), np.zeros(size, dtype=bool)
        clashes = [np.zeros((0, 2))]
        for condition in form.essential:
            edges = self.mesh.boundary(condition.part, form.axes)
            basis = self.bases[condition.field]
            found = basis.get_dofs(edges).flatten()
            places = basis.doflocs[:, found]
            data = boundary_value(condition, places, form.axes)
            at = found + self.start[condition.field]
            scale = max(abs(data).max(initial=0), np.nanmax(abs(value[set_by]), initial=0))
            apart = set_by[at] & (abs(value[at] - data) > JUMP * scale)
            clashes.append(places[:, apart].T)
            value[at], set_by[at] = data, True
        for pin in form.pins:
            first = self.start[pin.field]
            value[first], set_by[first] = 0.0, True
        which = np.flatnonzero(set_by)
        return (which, value[which]), np.unique(np.concatenate(clashes), axis=0)

    def _natural(self, form: Form, order: int) -> Iterator[tuple[Quadrature, Natural]]:
        from skfem import FacetBasis

        boundary = self.mesh.straight.boundary_facets()
        for f in (f for f in form.fields if f in form.second):
            own = [c for c in (*form.essential, *form.natural) if c.field == f]
            covered = [self.mesh.boundary(c.part, form.axes) for c in own]
            if not np.isin(boundary, np.concatenate([np.zeros(0, int), *covered])).all():
                raise SolveError(f"a part of the boundary has no condition for {f}; add one, such as {f}.normal")
        for condition in form.natural:
            edges = self.mesh.boundary(condition.part, form.axes)
            bases = {f: FacetBasis(b.mesh, b.elem, facets=edges, intorder=order) for f, b in self.bases.items()}
            yield self._quadrature(bases), condition


def element(degree: int) -> Any:
    """Return scikit-fem's Lagrange triangle of a degree from 0 to 4."""
    import skfem

    names = ("ElementTriP0", "ElementTriP1", "ElementTriP2", "ElementTriP3", "ElementTriP4")
    return getattr(skfem, names[degree])()


def _basis(mesh: Any, degree: int, order: int) -> Any:
    from skfem import Basis

    return Basis(mesh, element(degree), intorder=order)


def _lower(basis: Any, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the shape functions of one degree less at the quadrature points, and their values of the higher ones."""
    lower = element(degree - 1)
    nodes = lower.doflocs.T if degree > 1 else np.full((2, 1), 1 / 3)
    at = np.stack([basis.elem.lbasis(nodes, n)[0] * np.ones(nodes.shape[1]) for n in range(len(basis.basis))], axis=1)
    points = basis.X
    functions = [lower.lbasis(points, n)[0] * np.ones(points.shape[1]) for n in range(nodes.shape[1])]
    return np.stack(functions), at
