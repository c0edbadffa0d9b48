"""Terms that share points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.pde.domains import Part, Points
from sciml.views.residual import Term


@dataclass(frozen=True)
class Group:
    """The terms that hold on one part of the domain; they share its points and one pass of the network."""

    name: str
    part: Part
    terms: tuple[Term, ...]

    @property
    def inside(self) -> bool:
        """Whether its terms are equations, which hold in the interior, and not conditions."""
        return self.terms[0].condition is None

    @property
    def orders(self) -> tuple[tuple[int, ...], ...]:
        """The derivatives that the terms need, each once."""
        return tuple(sorted({d.order for term in self.terms for d in term.relation.needs}))

    @property
    def weight(self) -> str:
        """The entry of a batch with a factor of the residuals at each point, where there is one."""
        return f"{self.name}/weight"

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


def interior(groups: Sequence[Group]) -> Group:
    """Return the group of the equations."""
    return next(group for group in groups if group.inside)


def places(points: Points) -> Tensor:
    """Return the coordinates of the points, and after them those of their partners."""
    return points.coordinates if points.partner is None else torch.cat([points.coordinates, points.partner])
