"""The view of partial differential equations: residuals on a domain, and conditions on its parts."""

import copy
import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import sympy
import torch

from sciml.errors import UserError
from sciml.pde.conditions import Condition, Observed, Periodic, relations
from sciml.pde.domains import Domain, Part, Points
from sciml.pde.fields import Array, Derivative, Field, Relation, space_axes, symbol
from sciml.pde.tracing import trace
from sciml.problem import Complaint, Problem, Table, Variable
from sciml.solution import Solution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FULL = 3
"""The most dimensions in which solutions are scored on a full tensor grid."""
Derivatives = Callable[[Array, Sequence[Derivative]], Mapping[Derivative, Array]]
"""An interpreter: given coordinates (n, axes) and the derivatives wanted, returns each with shape (n,)."""


@dataclass(frozen=True)
class Term:
    """One scalar residual and the part of the domain where it must vanish."""

    name: str
    relation: Relation
    part: Part
    condition: Condition | None = None
    """The condition it states; None for an equation in the interior."""

    def residual(self, points: Points, derivatives: Derivatives) -> Array:
        """Return the residual at the points, shape (n,)."""
        axes, needs = self.relation.axes, self.relation.needs
        arguments = points.arguments(axes)
        value = self.relation(derivatives(points.coordinates, needs), arguments)
        if points.partner is None:
            return value
        return value - self.relation(derivatives(points.partner, needs), arguments)

    def given(self, numbers: Mapping[sympy.Symbol, sympy.Float], fields: Sequence[str]) -> "Term":
        """Return the term with numbers for symbols and some of the fields' derivatives as arguments."""
        expression: Any = self.relation.expression.xreplace(numbers)
        leaves = {d: leaf for d, leaf in self.relation.leaves.items() if d.field not in fields}
        return replace(self, relation=replace(self.relation, expression=expression, leaves=leaves))


@dataclass(frozen=True)
class Unknown:
    """A number in the equations that is sought along with the fields.

    Args:
        name: of the problem's attribute, which holds the true value; solvers see a symbol in its place.
        guess: from where solvers start.
        unit: its unit.
    """

    name: str
    guess: float
    unit: str = "1"


@dataclass(frozen=True)
class Singularity:
    """What is known of the fields near a point where they are not smooth.

    Args:
        at: the point, shape (axes,).
        fields: takes coordinates by name and returns an expression for each field, on the whole domain; fields less
            these are smoother. It need not have a value at the point itself.
    """

    at: tuple[float, ...]
    fields: Callable[..., Sequence[Any]]


class Residual(Problem):
    """Fields on a domain obey ``equations = 0`` inside and ``conditions`` on parts of it.

    The text of the equations is the same whether a coefficient is given or sought: an attribute that is named in
    ``unknowns`` is a symbol while the equations are read. Solutions return such numbers as constant outputs after
    the fields.
    """

    primary = "relative_l2"
    fields: ClassVar[tuple[Variable, ...]] = (Variable("u"),)
    unknowns: ClassVar[tuple[Unknown, ...]] = ()

    @abstractmethod
    def domain(self) -> Domain:
        """Return where the equations hold."""

    @abstractmethod
    def equations(self, *fields: Any, **coordinates: Any) -> Any:
        """Return the residual, or one per equation, written on fields and on coordinates by name."""

    @abstractmethod
    def conditions(self) -> Sequence[Condition]:
        """Return the initial, boundary, periodic and observed conditions."""

    def singularities(self) -> Sequence[Singularity]:
        """Return where and how the fields are singular, as far as it is known; some solvers seek the rest alone."""
        return ()

    @abstractmethod
    def reference(self, points: np.ndarray) -> np.ndarray:
        """Return the reference fields, shape (n, fields), at points of shape (n, axes)."""

    @cached_property
    def region(self) -> Domain:
        """The domain, made once."""
        return self.domain()

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """All residuals that a solution must drive to zero: the equations first, then the conditions."""
        axes, names = self.region.axes, tuple(f.name for f in self.fields)
        traced = trace(self._with_symbols([u.name for u in self.unknowns]).equations, names, axes)
        inside = self.region.interior()
        order = {a: max((d.order[i] for r in traced for d in r.needs), default=0) for i, a in enumerate(axes)}
        terms = [Term(_numbered("equation", k, len(traced)), r, inside) for k, r in enumerate(traced)]
        for condition in self.conditions():
            scalars = relations(condition, names, axes, order)
            part = condition.part(self.region)
            terms += [
                Term(_numbered(condition.name, k, len(scalars)), r, part, condition) for k, r in enumerate(scalars)
            ]
        for term in terms:
            if not term.relation.needs:
                raise UserError(f"{self.name}: {term.name} states {term.relation}, which mentions no field")
        return tuple(_distinct(terms))

    @property
    def periodic_axes(self) -> tuple[str, ...]:
        return tuple(c.axis for c in self.conditions() if isinstance(c, Periodic))

    @property
    def inputs(self) -> tuple[Variable, ...]:
        return tuple(Variable(a, self.region.units.get(a, "1")) for a in self.region.axes)

    @property
    def outputs(self) -> tuple[Variable, ...]:
        return (*self.fields, *(Variable(u.name, u.unit) for u in self.unknowns))

    def truth(self, points: np.ndarray) -> np.ndarray:
        """Return the reference outputs, shape (n, outputs): the fields at points of shape (n, axes), the unknowns."""
        sought = [np.full((len(points), 1), float(getattr(self, u.name))) for u in self.unknowns]
        return np.concatenate([self.reference(points), *sought], axis=1)

    def given(self, values: Mapping[str, float], fields: Sequence[str] = ()) -> "Residual":
        """Return the forward problem of an inverse one: equations with numbers for the unknowns, no measurements.

        Args:
            values: a number for each unknown.
            fields: names of fields that are given, too; relations then take them and their derivatives as arguments,
                and conditions on them alone are left out.
        """
        numbers = {symbol(name): sympy.Float(value) for name, value in values.items()}
        twin = copy.copy(self)
        for name in ("evaluation", "terms"):
            vars(twin).pop(name, None)
        terms = (t.given(numbers, fields) for t in self.terms if not isinstance(t.condition, Observed))
        sought = tuple(f for f in self.fields if f.name not in fields)
        vars(twin).update(values, unknowns=(), fields=sought, terms=tuple(t for t in terms if t.relation.needs))
        return twin

    def _with_symbols(self, names: Sequence[str]) -> "Residual":
        """Return a copy in whose equations some of the parameters are symbols."""
        axes = self.region.axes
        twin = copy.copy(self)
        vars(twin).pop("terms", None)
        for name in names:
            setattr(twin, name, Field(symbol(name), axes))
        return twin

    def evaluation_grid(self) -> dict[str, np.ndarray]:
        """Return by axis the coordinates of the tensor grid that files and figures show.

        In more than three dimensions it is a slice: two axes of space and time vary, the others stand in the middle.
        """
        axes = self.region.axes
        shown = axes if len(axes) <= FULL else (*space_axes(axes)[:2], "t")
        per_axis = {1: 1001, 2: 201}.get(len(axes), 41)
        bounds = dict(zip(axes, self.region.bounds, strict=True))
        middle = {a: ends.mean(keepdims=True) for a, ends in bounds.items()}
        return middle | {a: np.linspace(*bounds[a], num=per_axis) for a in axes if a in shown}

    def scored(self, points: np.ndarray) -> np.ndarray:
        """Return at which points of the domain, shape (n, axes), solutions are scored; all unless overridden."""
        return np.ones(len(points), dtype=bool)

    @cached_property
    def evaluation(self) -> tuple[np.ndarray, np.ndarray]:
        """Points in the domain where solutions are scored, (n, axes), and the truth there, (n, outputs).

        They are those of the evaluation grid; in more than three dimensions, where a grid is nearly all boundary,
        those of a Sobol sequence.
        """
        if len(self.region.axes) > FULL:
            generator = torch.Generator().manual_seed(0)
            drawn = self.region.interior().sample(1 << 15, generator, "sobol", torch.float64)
            points = drawn.coordinates.numpy()
        else:
            points = grid_points(self.evaluation_grid())
            points = points[self.region.contains(points)]
        points = points[self.scored(points)]
        return points, self.truth(points)

    def complaints(self) -> Iterator[Complaint]:
        from sciml.pde.wellposed import complaints

        yield from complaints(self)

    def prepare(self) -> None:
        self.evaluation  # noqa: B018 - cached

    def score(self, solution: Solution, seed: int = 0) -> dict[str, float]:
        """Return the relative L2 and the greatest error over the evaluation points.

        ``||u - u_ref|| / ||u_ref||`` for each output (the absolute root mean square where the reference is zero);
        ``relative_l2`` is its root mean square over the fields, whatever their units.
        """
        points, reference = self.evaluation
        error = solution(points) - reference
        each = [_relative(e, r) for e, r in zip(error.T, reference.T, strict=True)]
        fields = slice(len(self.fields))
        scores = {
            "relative_l2": float(np.sqrt(np.mean(np.square(each[fields])))),
            "max_error": float(np.abs(error[:, fields]).max()),
        }
        if len(each) > 1:
            scores |= {f"relative_l2_{v.name}": value for v, value in zip(self.outputs, each, strict=True)}
        return scores

    def monitor(self, solution: Solution) -> float:
        return self.score(solution)[self.primary]

    def statement(self) -> Iterator[tuple[str, str, str]]:
        for term in _symbolic(self).terms:
            yield term.name, str(term.relation), term.relation.latex()

    def trivial(self) -> Solution:
        constant = self.evaluation[1].mean(axis=0)
        constant[len(self.fields) :] = [u.guess for u in self.unknowns]
        return Solution(self, lambda points: np.tile(constant, (len(points), 1)), {"constant": constant})

    def table(self, solution: Solution) -> Table:
        grid = self.evaluation_grid()
        points = grid_points(grid)
        inside = self.region.contains(points)
        shape = tuple(map(len, grid.values()))
        known, reference = self.evaluation
        if not np.array_equal(known, points[inside]):
            reference = self.truth(points[inside])
        arrays = {}
        for answer, suffix in ((solution(points[inside]), ""), (reference, "_reference")):
            values = np.full((len(points), len(self.outputs)), np.nan)
            values[inside] = answer
            for k, v in enumerate(self.outputs):
                arrays[v.name + suffix] = (tuple(grid), values[:, k].reshape(shape))
        return Table(grid, arrays, {v.name: v for v in (*self.inputs, *self.outputs)})

    def figures(self, solution: Solution) -> Iterator[tuple[str, "Figure"]]:
        from sciml.figures import field_figure

        yield "solution", field_figure(self, self.table(solution))


def grid_points(grid: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the points of a tensor grid, shape (n, axes), last axis fastest."""
    return np.stack([g.ravel() for g in np.meshgrid(*grid.values(), indexing="ij")], axis=1)


def _symbolic(problem: Residual) -> Residual:
    """Return a copy whose real parameters are symbols, or the problem itself where it needs their values."""
    plain = (
        name
        for name, value in problem.settings.items()
        if isinstance(value, float) and vars(problem).get(name) == value and name not in problem.region.axes
    )
    twin = problem._with_symbols([*plain])
    try:
        twin.terms  # noqa: B018
    except (UserError, TypeError):
        return problem
    return twin


def _relative(error: np.ndarray, reference: np.ndarray) -> float:
    return float(np.linalg.norm(error) / (np.linalg.norm(reference) or np.sqrt(reference.size)))


def _numbered(name: str, k: int, count: int) -> str:
    return f"{name}_{k + 1}" if count > 1 else name


def _distinct(terms: list[Term]) -> Iterator[Term]:
    taken = {term.name for term in terms}
    seen: set[str] = set()
    for term in terms:
        name = term.name
        if name in seen:
            name = next(n for k in itertools.count(2) if (n := f"{name}_{k}") not in taken)
        taken.add(name)
        seen.add(name)
        yield replace(term, name=name)
