"""Time cut into windows, each with a network of its own that goes on from where the one before ended."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sciml.errors import UserError
from sciml.pde.conditions import Boundary, Initial, Observed
from sciml.pde.domains import Domain, Part, one_place
from sciml.pde.subset import Subset
from sciml.views.residual import Residual, Term

from ._groups import Group, grouped
from ._imposed import FieldData, Imposed

BEFORE = "derivatives of the window before"
"""The name by which points hold them, shape (n, places, orders, fields)."""
MARGIN = 0.05
"""Share of a window by which the network before is followed beyond its own, where its slope is handed over."""


class Windows(nn.Module):
    """Networks for one stretch of time after the other.

    As a network it is that of the window in training; ``whole`` is the function over all of time. A network that goes
    on from the one before needs all networks before it: in training that is evaluated once for each batch, without
    derivatives by parameters; in an evaluation of the answer it is not, whose cost grows with the window's number.

    Args:
        domain: with the time to be cut, in windows of equal length.
        count: how many windows.
        make: returns a window's network, given its number, its domain and the network before it.
    """

    def __init__(self, domain: Domain, count: int, make: Callable[[int, Domain, nn.Module | None], nn.Module]) -> None:
        super().__init__()
        self.domain, self.axis = domain, domain.index("t")
        low, high = domain.bounds[self.axis].tolist()
        self.ends: list[float] = np.linspace(low, high, count + 1).tolist()
        self.domains = [within(domain, self.axis, *ends) for ends in pairwise(self.ends)]
        self.networks = nn.ModuleList()
        for k, part in enumerate(self.domains):
            self.networks.append(make(k, part, self.networks[k - 1] if k else None))
        self.active = 0

    def grouped(self, terms: Sequence[Term]) -> tuple[tuple[Group, ...], ...]:
        """Return for each window the terms that hold at some time in it, by the part of the window where they do.

        Raises:
            UserError: a term holds in no window.
        """
        windows = tuple(grouped(_placed(terms, self.domain, part)) for part in self.domains)
        kept = {term.name for groups in windows for group in groups for term in group.terms}
        if lost := [term.name for term in terms if term.name not in kept]:
            raise UserError(f"{', '.join(lost)}: a predicate matches no point of the boundary; look at `at`")
        return windows

    def enter(self, number: int) -> None:
        """Begin with a window: its network alone is trained."""
        self.active = number
        for k, network in enumerate(self.networks):
            network.requires_grad_(k == number)

    @property
    def before(self) -> nn.Module | None:
        """The network of the window before, if there is one."""
        return self.networks[self.active - 1] if self.active else None

    @property
    def held(self) -> nn.Module | None:
        """What the network of the window in training has from the one before, as a summand, if it has any."""
        network = self.networks[self.active]
        return network.held if isinstance(network, Handover) else None

    @property
    def own(self) -> nn.Module:
        """The network of the window in training, without that summand."""
        network = self.networks[self.active]
        return network.imposed if isinstance(network, Handover) else network

    def forward(self, points: Tensor) -> Tensor:
        return self.networks[self.active](points)

    def whole(self, points: Tensor) -> Tensor:
        """Return the fields at any time, each from the network of its window."""
        inner = points.new_tensor(self.ends[1:-1])
        number = torch.bucketize(points[:, self.axis].contiguous(), inner)
        rows = [(number == k).nonzero()[:, 0] for k in range(len(self.networks))]
        fields = torch.cat([network(points[some]) for network, some in zip(self.networks, rows, strict=True)])
        return torch.empty_like(fields).index_copy_(0, torch.cat(rows), fields)


class Handover(nn.Module):
    """A network that begins at a moment t₀ with the values of another one, and where wanted its slope in time.

    u(x, t) = u₋(x, τ) - G(x, τ) + G(x, t) + D(x, t) ((t - t₀) / h)ᵐ N(x, t)

    with u₋ the network before, G and D what is imposed on the boundary, and h the window's length. τ = t₀ hands the
    value over, m = 1; a τ that leaves t₀ with slope 1 and comes to rest soon after hands over the slope too, m = 2.

    Args:
        network: N.
        before: u₋, which is not trained.
        begin: t₀.
        length: h.
        axis: the number of the time axis among the coordinates.
        orders: m of each field, 0 where nothing is handed over.
        data: for each field what is imposed on the boundary in space.
    """

    def __init__(
        self,
        network: nn.Module,
        before: nn.Module,
        begin: float,
        length: float,
        axis: int,
        orders: Sequence[int],
        data: Sequence[FieldData],
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.imposed = Imposed(_Ramp(network, begin, length, axis, orders), data)
        self.held = _Held(before, self.imposed, begin, MARGIN * length, axis, len(data[0].box.axes), orders, dtype)

    def forward(self, points: Tensor) -> Tensor:
        return self.imposed(points) + self.held(points)


class _Held(nn.Module):
    """``u₋(x, τ) - G(x, τ)`` for the fields that are handed over, else 0."""

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        before: nn.Module,
        imposed: Imposed,
        begin: float,
        reach: float,
        axis: int,
        axes: int,
        orders: Sequence[int],
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self._before = (before,)  # it has its place, and its parameters, in the window before
        self.shapes = imposed.shapes
        self.begin, self.reach, self.axis, self.orders = begin, reach, axis, tuple(orders)
        keep = torch.eye(axes, dtype=dtype)
        keep[axis, axis] = 0
        self.register_buffer("weight", keep, persistent=False)
        self.register_buffer("bias", begin * (1 - keep.diagonal()), persistent=False)

    def forward(self, points: Tensor) -> Tensor:
        held = self._at(points)
        before = self._before[0](held)
        columns = [held[:, i : i + 1] for i in range(held.shape[1])]
        parts = []
        for k, (order, shape) in enumerate(zip(self.orders, self.shapes, strict=True)):
            part = before[:, k : k + 1]
            if not order:
                part = part * 0.0
            elif shape is not None:
                part = part - shape[0](*columns)
            parts.append(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _at(self, points: Tensor) -> Tensor:
        """Return the points moved from t to τ."""
        if max(self.orders) < 2:
            return F.linear(points, self.weight, self.bias)
        columns = [points[:, i : i + 1] for i in range(points.shape[1])]
        columns[self.axis] = torch.tanh((columns[self.axis] - self.begin) / self.reach) * self.reach + self.begin
        return torch.cat(columns, dim=1)


class _Ramp(nn.Module):
    """A network times ``((t - t₀) / h)ᵐ``."""

    def __init__(self, network: nn.Module, begin: float, length: float, axis: int, orders: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.begin, self.length, self.axis, self.orders = begin, length, axis, tuple(orders)

    def forward(self, points: Tensor) -> Tensor:
        fields = self.network(points)
        ramp = (points[:, self.axis : self.axis + 1] - self.begin) / self.length
        parts = []
        for k, order in enumerate(self.orders):
            part = fields[:, k : k + 1]
            for _ in range(order):
                part = part * ramp
            parts.append(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def handed(term: Term) -> str:
    """Return the name by which points hold what the window before has where a term holds."""
    return f"before {term.name}"


def within(domain: Domain, axis: int, low: float, high: float) -> Domain:
    """Return a domain whose time runs from ``low`` to ``high``."""
    part = copy.copy(domain)
    part.bounds = domain.bounds.copy()
    part.bounds[axis] = low, high
    return part


def split(data: FieldData, axis: int, box: Domain) -> tuple[int, FieldData]:
    """Return how many derivatives in time, the value first, are imposed at the start, and what is imposed elsewhere."""
    elsewhere = {place: value for place, value in data.given.items() if place[0] != axis}
    return len(data.given) - len(elsewhere), replace(data, box=box, given=elsewhere)


def moment(term: Term, domain: Domain) -> int | None:
    """Return the end of time, 0 or 1, where a term holds, or None where it holds at times between them, too."""
    match term.condition:
        case Initial():
            return 0
        case Boundary(at=Mapping() as at) if "t" in at:
            return domain.end(*one_place(at))
    return None


def _placed(terms: Sequence[Term], whole: Domain, window: Domain) -> list[Term]:
    """Return the terms that hold at some time in a window, there; what holds at the start does at the window's."""
    parts = {id(term.part): _part(term, whole, window) for term in terms}
    empty = {key for key, part in parts.items() if isinstance(part, Subset) and part.measure() == 0}
    return [replace(term, part=parts[id(term.part)]) for term in terms if id(term.part) not in empty]


def _part(term: Term, whole: Domain, window: Domain) -> Part:
    if term.condition is None:
        return window.interior()
    return window.start() if moment(term, whole) == 0 else term.condition.part(window)


def refusal(problem: Residual) -> str | None:
    """Return why a problem cannot be solved window by window, or None where it can."""
    conditions = problem.conditions()
    if problem.unknowns or any(isinstance(c, Observed) for c in conditions):
        return "numbers that are sought, and measurements, belong to all windows of time"
    if "t" in problem.periodic_axes or any(moment(term, problem.region) == 1 for term in problem.terms):
        return "conditions at the end of time, or periodic in it, belong to all windows"
    return None
