"""Residual problems as nonlinear least squares for the coefficients of features and the numbers that are sought."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from sciml.pde.conditions import Observed, Periodic
from sciml.pde.domains import Box, Faces, Part, Points, Scattered
from sciml.pde.expressions import differentiate
from sciml.pde.fields import Derivative, Relation, symbol
from sciml.pde.subset import Subset
from sciml.views.residual import Residual, Term

from ._features import Features, Order

INSIDE = 2.0
"""Interior points per feature."""
ACROSS = 4.0
"""Points of a face per feature and axis, if features were spread evenly over the axes."""
Values = Mapping[Derivative, np.ndarray]


@dataclass(frozen=True)
class Expansion:
    """Fields as sums of features, and the numbers that are sought.

    Args:
        features: of all fields alike.
        coefficients: shape (features, fields).
        unknowns: the numbers, in the problem's order.
    """

    features: Features
    coefficients: np.ndarray
    unknowns: np.ndarray


class Statement:
    """A term of the problem with its linearisation."""

    def __init__(self, term: Term, unknowns: Sequence[str]) -> None:
        relation = term.relation
        self.term, self.relation = term, relation
        self.observed = isinstance(term.condition, Observed)
        self.partials = {d: relation.partial(d) for d in relation.needs}
        changes = (differentiate(relation.expression, symbol(name)) for name in unknowns)
        self.sensitivities = [Relation(change, relation.leaves, relation.axes) for change in changes]

    @property
    def is_linear(self) -> bool:
        return self.relation.is_linear and not any(s.expression != 0 for s in self.sensitivities)


@dataclass(frozen=True)
class Group:
    """Points, and the statements that hold there.

    Args:
        statements: what holds.
        coordinates: shape (n, axes).
        arguments: coordinates, normals and observed values by name, each of shape (n,).
    """

    statements: tuple[Statement, ...]
    coordinates: np.ndarray
    arguments: Mapping[str, np.ndarray]

    @property
    def needs(self) -> tuple[Derivative, ...]:
        return tuple(sorted({d for s in self.statements for d in s.relation.needs}))

    @property
    def orders(self) -> tuple[Order, ...]:
        return tuple(sorted({d.order for d in self.needs}))

    def values(self, expansion: Expansion, columns: Mapping[str, int]) -> dict[Derivative, np.ndarray]:
        """Return the derivatives that the statements need, of an expansion."""
        matrices = expansion.features.matrices(self.coordinates, self.orders)
        return combined(self.needs, matrices, expansion.coefficients, columns)


def combined(
    needs: Sequence[Derivative],
    matrices: Mapping[Order, np.ndarray],
    coefficients: np.ndarray,
    columns: Mapping[str, int],
) -> dict[Derivative, np.ndarray]:
    """Return derivatives of fields from those of features."""
    return {d: matrices[d.order] @ coefficients[:, columns[d.field]] for d in needs}


class System:
    """All statements of a problem, at points of training for a number of features and at points held out.

    Conditions of periodicity are left out: features are periodic by themselves.
    """

    def __init__(self, problem: Residual) -> None:
        self.problem = problem
        self.fields = {f.name: i for i, f in enumerate(problem.fields)}
        self.unknowns = [u.name for u in problem.unknowns]
        self.periodic = [problem.region.index(a) for a in problem.periodic_axes]
        self.parts: dict[int, tuple[Part, list[Statement]]] = {}
        for term in problem.terms:
            if not isinstance(term.condition, Periodic):
                statement = Statement(term, self.unknowns)
                self.parts.setdefault(id(term.part), (term.part, []))[1].append(statement)

    @property
    def guesses(self) -> np.ndarray:
        """Where the search for numbers starts."""
        return np.array([u.guess for u in self.problem.unknowns], dtype=float)

    @property
    def statements(self) -> list[Statement]:
        return [s for _, statements in self.parts.values() for s in statements]

    @property
    def is_linear(self) -> bool:
        return all(s.is_linear for s in self.statements)

    def sample(self, features: int, seed: int) -> list[Group]:
        """Return points, as many as fields of so many features need, and what holds there."""
        generator = torch.Generator().manual_seed(seed)
        groups = []
        for part, statements in self.parts.values():
            count = self._count(part, statements, features)
            drawn = self._gathered(part, part.sample(count, generator, "sobol", torch.float64))
            arguments = {k: v.numpy() for k, v in drawn.arguments(self.problem.region.axes).items()}
            groups.append(Group(tuple(statements), drawn.coordinates.numpy(), arguments))
        return groups

    def _gathered(self, part: Part, drawn: Points) -> Points:
        """Return points of a box, where fields are singular closer together towards its sides, as Chebyshev's are."""
        region = self.problem.region
        if not (self.problem.singularities() and isinstance(region, Box)) or isinstance(part, (Scattered, Subset)):
            return drawn
        low, high = torch.as_tensor(region.bounds.T)
        share = (1 - torch.cos(torch.pi * (drawn.coordinates - low) / (high - low))) / 2
        return replace(drawn, coordinates=low + (high - low) * share)

    def rows(self, features: int) -> int:
        """Return about how many rows there are for so many features of each field."""
        return sum(len(s) * self._count(part, s, features) for part, s in self.parts.values())

    def _count(self, part: Part, statements: Sequence[Statement], features: int) -> int:
        if all(s.term.condition is None for s in statements):
            return int(INSIDE * features)
        dimension = len(self.problem.region.axes)
        if isinstance(part, Faces):
            faces = len(part.faces)
        else:
            faces = 2 * dimension
        return int(min(faces * ACROSS * features ** (1 - 1 / dimension), INSIDE * features * faces))

    def numbers(self, group: Group, unknowns: np.ndarray) -> dict[str, np.ndarray]:
        """Return a group's arguments with the numbers that are sought."""
        sought = {name: np.full(len(group.coordinates), v) for name, v in zip(self.unknowns, unknowns, strict=True)}
        return {**group.arguments, **sought}

    def misfits(self, expansion: Expansion, groups: Sequence[Group]) -> dict[str, float]:
        """Return by term the root mean square of its residual, relative to the size of what it adds up.

        The size is ``rms(r - sum_d g_d d) + sum_d rms(g_d) rms(d)``, with r the residual, d the derivatives that
        it mentions, in the interior, and g_d its partial derivative by d.
        """
        inside = next(g for g in groups if any(s.term.condition is None for s in g.statements))
        sizes = {}
        whole = expansion.features.matrices(inside.coordinates, sorted({d.order for g in groups for d in g.needs}))
        for d in {d for g in groups for d in g.needs}:
            sizes[d] = _rms(whole[d.order] @ expansion.coefficients[:, self.fields[d.field]])
        found = {}
        for group in groups:
            values = group.values(expansion, self.fields)
            arguments = self.numbers(group, expansion.unknowns)
            for s in group.statements:
                residual = s.relation(values, arguments)
                slopes = {d: p(values, arguments) for d, p in s.partials.items()}
                rest = residual - sum(slopes[d] * values[d] for d in slopes)
                size = _rms(rest) + sum(_rms(slope) * sizes[d] for d, slope in slopes.items())
                found[s.term.name] = _rms(residual) / size if size else 0.0
        return found


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
