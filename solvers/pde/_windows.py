"""Time cut into windows, each with a network of its own that goes on from where the one before ended."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sciml.pde.domains import Domain, Points

from ._imposed import FieldData, Imposed

MARGIN = 0.05
"""Share of a window by which the network before is followed beyond its own, where its slope is handed over."""


class Windows(nn.Module):
    """Networks for one stretch of time after the other.

    As a network it is that of the window in training; ``whole`` is the function over all of time.

    Args:
        domain: with the time to be cut, in windows of equal length.
        count: how many windows.
        make: returns a window's network, given its number, its domain and the network before it.
    """

    def __init__(self, domain: Domain, count: int, make: Callable[[int, Domain, nn.Module | None], nn.Module]) -> None:
        super().__init__()
        self.axis = domain.index("t")
        self.span: tuple[float, float] = tuple(domain.bounds[self.axis].tolist())
        self.ends = np.linspace(*self.span, count + 1).tolist()
        self.networks = nn.ModuleList()
        for k in range(count):
            before = self.networks[k - 1] if k else None
            self.networks.append(make(k, within(domain, self.axis, self.ends[k], self.ends[k + 1]), before))
        self.active = 0

    def enter(self, number: int) -> None:
        """Begin with a window: its network alone is trained."""
        self.active = number
        for k, network in enumerate(self.networks):
            network.requires_grad_(k == number)

    @property
    def before(self) -> nn.Module | None:
        """The network of the window before, if there is one."""
        return self.networks[self.active - 1] if self.active else None

    def place(self, points: Points) -> Points:
        """Return points of the whole domain moved into the window in training, in the same order in time."""
        shrink = 1 / len(self.networks)
        return replace(
            points,
            coordinates=self._moved(points.coordinates, shrink),
            partner=None if points.partner is None else self._moved(points.partner, shrink),
        )

    def _moved(self, coordinates: Tensor, shrink: float) -> Tensor:
        moved = coordinates.clone()
        moved[:, self.axis] = self.ends[self.active] + (coordinates[:, self.axis] - self.span[0]) * shrink
        return moved

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

    weight: Tensor
    bias: Tensor

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
        self._before = (before,)  # it has its place, and its parameters, in the window before
        self.begin, self.reach, self.axis, self.orders = begin, MARGIN * length, axis, tuple(orders)
        keep = torch.eye(len(data[0].box.axes), dtype=dtype)
        keep[axis, axis] = 0
        self.register_buffer("weight", keep, persistent=False)
        self.register_buffer("bias", begin * (1 - keep.diagonal()), persistent=False)

    def forward(self, points: Tensor) -> Tensor:
        fields, held = self.imposed(points), self._held(points)
        before = self._before[0](held)
        columns = [held[:, i : i + 1] for i in range(held.shape[1])]
        parts = []
        for k, (order, shape) in enumerate(zip(self.orders, self.imposed.shapes, strict=True)):
            part = fields[:, k : k + 1]
            if order:
                part = part + before[:, k : k + 1]
            if order and shape is not None:
                part = part - shape[0](*columns)
            parts.append(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _held(self, points: Tensor) -> Tensor:
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
