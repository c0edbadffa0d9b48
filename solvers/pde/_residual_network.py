"""What all networks that are trained on the residuals of differential equations share."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from sciml.networks import Normalise
from sciml.neural import NeuralSolver
from sciml.pde import taylor
from sciml.pde.domains import Part, Points, Sampling
from sciml.pde.fields import Array, Derivative
from sciml.pde.tape import per_row
from sciml.views.residual import Derivatives, Residual, Term

from ._imposed import Imposed, impose

EVALUATION_ROWS = 1 << 14
"""Points at which a network is evaluated at once."""
POOL = 8
"""Candidates for each point that is drawn anew."""
OVERFIT = 3.0
"""The ratio of mean squared residuals at fresh and at old points from which more points are taken."""
GROWTH = 4
"""The most points that are taken, relative to those at the start."""


@dataclass(frozen=True)
class Group:
    """The terms that hold on one part of the domain; they share its points and one pass of the network."""

    name: str
    part: Part
    terms: tuple[Term, ...]

    @property
    def orders(self) -> tuple[tuple[int, ...], ...]:
        """The derivatives that the terms need, each once."""
        return tuple(sorted({d.order for term in self.terms for d in term.relation.needs}))

    def pack(self, points: Points) -> dict[str, Tensor]:
        """Return points as entries of a batch, one row for each point."""
        partner = {} if points.partner is None else {f"{self.name}/partner": points.partner}
        extras = {f"{self.name}/extras/{name}": values for name, values in points.extras.items()}
        return {f"{self.name}/coordinates": points.coordinates, **partner, **extras}

    def points(self, batch: Mapping[str, Tensor]) -> Points:
        """Return the points that ``pack`` put into a batch."""
        prefix = f"{self.name}/extras/"
        extras = {name.removeprefix(prefix): rows for name, rows in batch.items() if name.startswith(prefix)}
        return Points(batch[f"{self.name}/coordinates"], extras, batch.get(f"{self.name}/partner"))


def grouped(terms: Sequence[Term]) -> tuple[Group, ...]:
    """Return the terms by the part of the domain where they hold."""
    parts = {id(term.part): term.part for term in terms}
    members = [[term for term in terms if term.part is part] for part in parts.values()]
    return tuple(Group(same[0].name, same[0].part, tuple(same)) for same in members)


class ResidualNetwork(NeuralSolver[Residual]):
    """A network u whose weighted mean squared residuals are minimised, ``Σ_k w_k mean_i r_k(x_i; u)²``.

    The parent of methods that differ in the network, in where its points come from and in the optimiser.
    """

    needs = Residual
    precision_default = "64"

    points: int
    condition_points: int
    condition_weight: float
    sampling: Sampling
    impose: bool
    network: nn.Module

    @abstractmethod
    def architecture(self, features: int, outputs: int) -> nn.Module:
        """Return the network from normalised inputs to fields, in dtype ``self.real``."""

    def build(self, problem: Residual) -> None:
        region = problem.region
        periodic = tuple(a in problem.periodic_axes for a in region.axes)
        normalise = Normalise(region.bounds, periodic, self.real)
        network = nn.Sequential(normalise, self.architecture(normalise.features, len(problem.fields)))
        values, met = impose(problem) if self.impose else ([], frozenset())
        self.network = Imposed(network, values) if met else network
        self.groups = grouped([term for term in problem.terms if term.name not in met])
        self.places = {f.name: k for k, f in enumerate(problem.fields)}
        self.sought = nn.ParameterDict({u.name: torch.tensor(u.guess, dtype=self.real) for u in problem.unknowns})

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        batch = {}
        for group in self.groups:
            inside = group.terms[0].condition is None
            count = self.points if inside else self.condition_points
            batch |= group.pack(group.part.sample(count, generator, self.sampling, self.real))
        return batch

    def resample(self, generator: torch.Generator, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Draw points anew, in the interior likelier where residuals are large.

        They come from a pool with probability proportional to ``|r| / mean |r| + 1``. Where the pool's mean square is
        several times that at the old points, the network has learnt the points and not the equations: there are twice
        as many points from then on.
        Source: C. Wu et al., A comprehensive study of non-adaptive and residual-based adaptive sampling for
        physics-informed neural networks (2023), arXiv 2207.10289.
        """
        drawn = self.sample(generator)
        for group in self.groups:
            if group.terms[0].condition is not None:
                continue
            count = len(batch[f"{group.name}/coordinates"])
            pool = group.pack(group.part.sample(POOL * count, generator, self.sampling, self.real))
            fresh, old = (self._squares(group, rows) for rows in (pool, batch))
            if fresh.mean() > OVERFIT * old.mean() and count < GROWTH * self.points:
                count *= 2
            size = fresh.sqrt()
            chosen = torch.multinomial(size / size.mean() + 1, count, generator=generator)
            drawn |= {name: rows[chosen] for name, rows in pool.items()}
        return drawn

    @torch.no_grad()
    def _squares(self, group: Group, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the squared residuals of a group, summed over its terms, shape (n,)."""
        return torch.stack([r.square() for r in self._group(group, batch).values()]).sum(dim=0)

    def residuals(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: rows for group in self.groups for name, rows in self._group(group, batch).items()}

    def _group(self, group: Group, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted residuals of the terms of a group, each of shape (n,)."""
        points = group.points(batch)
        derivatives = self.interpreter(points, group.orders)
        sought = {name: per_row(value, len(points)) for name, value in self.sought.items()}
        points = replace(points, extras={**points.extras, **sought})
        residuals = {}
        for term in group.terms:
            weight = 1.0 if term.condition is None else math.sqrt(self.condition_weight)
            residuals[term.name] = weight * term.residual(points, derivatives)
        return residuals

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: residual.square().mean() for name, residual in self.residuals(batch).items()}

    def interpreter(self, points: Points, orders: tuple[tuple[int, ...], ...]) -> Derivatives:
        """Return the network's derivatives at the points and their partners, all found in one pass."""
        places = [points.coordinates] if points.partner is None else [points.coordinates, points.partner]
        values = taylor.derivatives(self.network, torch.cat(places), orders)

        def derivatives(coordinates: Array, wanted: Sequence[Derivative]) -> dict[Derivative, Tensor]:
            rows = slice(len(points), None) if coordinates is points.partner else slice(len(points))
            return {d: values[orders.index(d.order), rows, self.places[d.field]] for d in wanted}

        return derivatives

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        def evaluate(points: np.ndarray) -> np.ndarray:
            parameter = next(self.network.parameters())
            with torch.no_grad():
                rows = torch.as_tensor(points, dtype=parameter.dtype, device=parameter.device)
                blocks = [self.network(block) for block in rows.split(EVALUATION_ROWS)]
                sought = [value.expand(len(rows), 1) for value in self.sought.values()]
                return torch.cat([torch.cat(blocks), *sought], dim=1).cpu().double().numpy()

        return evaluate
