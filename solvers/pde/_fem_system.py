"""The weak residual of a form and its derivative, for any shape functions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csc_array

from sciml.errors import SolveError
from sciml.pde.fields import Derivative, Relation, normal_name

from ._fem_form import SLOPES, VALUE, Essential, Form, Natural

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


class System:
    """A form with shape functions chosen: the weak residual and its derivative.

    Args:
        form: the weak form.
        inside: over the domain.
        edges: over the edges of each natural condition.
        given: the numbers of the unknowns that have a value, and that value.
        size: the number of unknowns.
    """

    def __init__(
        self,
        form: Form,
        inside: Quadrature,
        edges: Sequence[tuple[Quadrature, Natural]],
        given: tuple[np.ndarray, np.ndarray],
        size: int,
    ) -> None:
        self.form, self.inside, self.edges, self.given, self.size = form, inside, edges, given, size
        self.free = np.setdiff1d(np.arange(size), given[0])

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


def boundary_value(condition: Essential, places: np.ndarray, axes: Sequence[str]) -> np.ndarray:
    """Return the value that a condition gives its field at places of shape (2, n)."""
    relation, arguments = condition.relation, dict(zip(axes, places, strict=True))
    (d,) = relation.needs
    nothing = {d: np.zeros(places.shape[1])}
    value = -relation(nothing, arguments) / relation.partial(d)(nothing, arguments)
    if not np.isfinite(value).all():
        raise SolveError(f"the condition {condition.name} gives no finite value somewhere on the boundary")
    return value
