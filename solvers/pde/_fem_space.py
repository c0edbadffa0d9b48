"""Fields on a mesh by Lagrange elements: the residual of a weak form, its derivative, the error indicator."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csc_array

from sciml.errors import SolveError
from sciml.pde.fields import Derivative, Relation, normal_name

from ._fem_form import SLOPES, VALUE, Essential, Form, Natural
from ._fem_mesh import Triangulation

JUMP = 1e-8
"""Boundary values at one place differ where they are further apart than this, relative to the greatest."""
PARALLEL = 1e-6
ORDERS = (VALUE, *SLOPES)


@dataclass(frozen=True)
class Quadrature:
    """What integrals over triangles or over edges need.

    Args:
        places: coordinates of the quadrature points, shape (2, cells, q).
        weights: shape (cells, q).
        shapes: values and slopes of every field's shape functions, shape (cells, functions, 3, q).
        dofs: the numbers of the unknowns, shape (cells, functions).
        normals: shape (2, cells, q), on edges.
    """

    places: np.ndarray
    weights: np.ndarray
    shapes: Mapping[str, np.ndarray]
    dofs: Mapping[str, np.ndarray]
    normals: np.ndarray | None = None

    def values(self, y: np.ndarray) -> dict[Derivative, np.ndarray]:
        """Return all fields and their slopes at the points, each of shape (cells * q,)."""
        found = {}
        for f, shapes in self.shapes.items():
            at = np.einsum("en,enaq->aeq", y[self.dofs[f]], shapes, optimize=True)
            found |= {Derivative(f, order): at[a].ravel() for a, order in enumerate(ORDERS)}
        return found

    def arguments(self, axes: Sequence[str]) -> dict[str, np.ndarray]:
        found = {a: x.ravel() for a, x in zip(axes, self.places, strict=True)}
        if self.normals is not None:
            found |= {normal_name(a): n.ravel() for a, n in zip(axes, self.normals, strict=True)}
        return found

    def vector(self, field: str, rows: Mapping[int, np.ndarray], size: int) -> np.ndarray:
        """Integrate terms, each of shape (cells * q,), times the value (0) or a slope (1, 2) of the test functions."""
        total = np.zeros(self.dofs[field].shape)
        for b, term in rows.items():
            weighted = term.reshape(self.weights.shape) * self.weights
            total += np.einsum("enq,eq->en", self.shapes[field][:, :, b], weighted)
        return np.bincount(self.dofs[field].ravel(), total.ravel(), size)

    def matrix(self, field: str, other: str, terms: Mapping[tuple[int, int], np.ndarray]) -> "Triplets":
        """Integrate products of test functions of one field with trial functions of another, or of their slopes."""
        test, trial = self.shapes[field], self.shapes[other]
        made = 0.0
        for b in {b for b, _ in terms}:
            right = 0.0
            for (of, a), term in terms.items():
                if of == b:
                    weighted = term.reshape(self.weights.shape) * self.weights
                    right = right + trial[:, :, a] * weighted[:, None]
            made = made + np.matmul(test[:, :, b], np.swapaxes(right, 1, 2))
        shape = np.shape(made)
        rows = np.broadcast_to(self.dofs[field][:, :, None], shape)
        columns = np.broadcast_to(self.dofs[other][:, None, :], shape)
        return rows.ravel(), columns.ravel(), np.ravel(made)


Triplets = tuple[np.ndarray, np.ndarray, np.ndarray]


class Space:
    """A form on a mesh.

    Args:
        form: the weak form.
        mesh: the triangulation.
        degree: of the elements; one less for fields without second derivatives.

    Raises:
        SolveError: a part of the boundary has no condition, or one that gives no flux.
    """

    def __init__(self, form: Form, mesh: Triangulation, degree: int) -> None:
        self.form, self.mesh = form, mesh
        self.degree = {f: degree if f in form.second else max(1, degree - 1) for f in form.fields}
        self.bases = {f: _basis(mesh.curved, d, 3 * degree - 1) for f, d in self.degree.items()}
        ends = np.cumsum([0, *(b.N for b in self.bases.values())])
        self.start = dict(zip(form.fields, ends.tolist(), strict=False))
        self.size = int(ends[-1])
        self.inside = self._quadrature(self.bases)
        self.given, self.clashes = self._essential()
        self.edges = list(self._natural(3 * degree))
        self.free = np.setdiff1d(np.arange(self.size), self.given[0])

    def lifted(self, y: np.ndarray) -> np.ndarray:
        """Return unknowns with the boundary values in their places."""
        y = y.copy()
        y[self.given[0]] = self.given[1]
        return y

    def residual(self, y: np.ndarray) -> np.ndarray:
        """Return the weak residual for every test function, shape (size,)."""
        values, arguments = self.inside.values(y), self.inside.arguments(self.form.axes)
        total = np.zeros(self.size)
        for equation in self.form.equations:
            rows = {b: r(values, arguments) for b, r in enumerate(equation.rows) if r.expression != 0}
            total += self.inside.vector(equation.field, rows, self.size)
        for edge, condition in self.edges:
            flux = self._flux(edge, condition, y)[0]
            total += edge.vector(condition.field, {0: flux}, self.size)
        return total

    def jacobian(self, y: np.ndarray) -> csc_array:
        """Return the derivative of the residual."""
        values, arguments = self.inside.values(y), self.inside.arguments(self.form.axes)
        blocks = []
        for equation in self.form.equations:
            for f in self.form.fields:
                terms = {
                    (b, a): part(values, arguments) for b, r in enumerate(equation.rows) for a, part in _partials(r, f)
                }
                if terms:
                    blocks.append(self.inside.matrix(equation.field, f, terms))
        for edge, condition in self.edges:
            for f, terms in self._flux(edge, condition, y)[1].items():
                blocks.append(edge.matrix(condition.field, f, terms))
        rows, columns, entries = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        return csc_array(coo_array((entries, (rows, columns)), shape=(self.size, self.size)))

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

    def _essential(self) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """Return the unknowns that have a value and that value; and places where conditions disagree, (n, 2)."""
        value, set_by = np.full(self.size, np.nan), np.zeros(self.size, dtype=bool)
        clashes = [np.zeros((0, 2))]
        for condition in self.form.essential:
            edges = self.mesh.boundary(condition.part, self.form.axes)
            basis = self.bases[condition.field]
            found = basis.get_dofs(edges).flatten()
            places = basis.doflocs[:, found]
            data = _value(condition, places, self.form.axes)
            at = found + self.start[condition.field]
            scale = max(abs(data).max(initial=0), np.nanmax(abs(value[set_by]), initial=0))
            apart = set_by[at] & (abs(value[at] - data) > JUMP * scale)
            clashes.append(places[:, apart].T)
            value[at], set_by[at] = data, True
        for pin in self.form.pins:
            first = self.start[pin.field]
            value[first], set_by[first] = 0.0, True
        which = np.flatnonzero(set_by)
        return (which, value[which]), np.unique(np.concatenate(clashes), axis=0)

    def _natural(self, order: int) -> Iterator[tuple[Quadrature, Natural]]:
        from skfem import FacetBasis

        boundary = self.mesh.straight.boundary_facets()
        for f in self.form.second:
            own = [c for c in (*self.form.essential, *self.form.natural) if c.field == f]
            covered = [self.mesh.boundary(c.part, self.form.axes) for c in own]
            if not np.isin(boundary, np.concatenate([np.zeros(0, int), *covered])).all():
                raise SolveError(f"a part of the boundary has no condition for {f}; add one, such as {f}.normal")
        for condition in self.form.natural:
            edges = self.mesh.boundary(condition.part, self.form.axes)
            bases = {f: FacetBasis(b.mesh, b.elem, facets=edges, intorder=order) for f, b in self.bases.items()}
            yield self._quadrature(bases), condition

    def _flux(
        self, edge: Quadrature, condition: Natural, y: np.ndarray
    ) -> tuple[np.ndarray, dict[str, dict[tuple[int, int], np.ndarray]]]:
        """Return the outward flux that a condition implies, and its partial derivatives by field.

        A condition ``c n·flux + rest = 0`` gives ``n·flux - condition / c``.
        """
        field, relation = condition.field, condition.relation
        equation = next(e for e in self.form.equations if e.field == field)
        values, arguments = edge.values(y), edge.arguments(self.form.axes)
        normals = [arguments[normal_name(a)] for a in self.form.axes]

        def through(of: Callable[[Relation], np.ndarray]) -> np.ndarray:
            return sum((n * of(r) for n, r in zip(normals[1:], equation.flux[1:], strict=True)), normals[0] * of(first))

        first = equation.flux[0]
        both: dict[Derivative, tuple[np.ndarray, np.ndarray]] = {}
        for d in (Derivative(f, order) for f in self.form.fields for order in ORDERS):
            own = through(lambda r, d=d: _partial(r, d, values, arguments))
            both[d] = own, _partial(relation, d, values, arguments)
        own, stated = np.stack([both[Derivative(field, order)] for order in SLOPES], axis=1)
        share = (stated * own).sum(axis=0) / (own**2).sum(axis=0)
        if np.abs(stated - share * own).max(initial=0) > PARALLEL * np.abs(stated).max(initial=0) or not share.all():
            raise SolveError(f"the condition {condition.name} is no multiple of the flux of {field} out of the domain")
        parts: dict[str, dict[tuple[int, int], np.ndarray]] = {}
        for d, (own, stated) in both.items():
            part = own - stated / share
            if np.any(part):
                parts.setdefault(d.field, {})[0, ORDERS.index(d.order)] = part
        flux = through(lambda r: r(values, arguments))
        return flux - relation(values, arguments) / share, parts


def _partials(relation: Relation, field: str) -> Iterator[tuple[int, Relation]]:
    for a, order in enumerate(ORDERS):
        d = Derivative(field, order)
        if d in relation.needs:
            yield a, relation.partial(d)


def _partial(relation: Relation, d: Derivative, values: Mapping, arguments: Mapping) -> np.ndarray:
    if d not in relation.needs:
        return np.zeros_like(next(iter(arguments.values())))
    return relation.partial(d)(values, arguments)


def _value(condition: Essential, places: np.ndarray, axes: Sequence[str]) -> np.ndarray:
    """Return the value that a condition gives its field at places of shape (2, n)."""
    relation, arguments = condition.relation, dict(zip(axes, places, strict=True))
    (d,) = relation.needs
    nothing = {d: np.zeros(places.shape[1])}
    value = -relation(nothing, arguments) / relation.partial(d)(nothing, arguments)
    if not np.isfinite(value).all():
        raise SolveError(f"the condition {condition.name} gives no finite value somewhere on the boundary")
    return value


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
