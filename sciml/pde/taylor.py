"""Derivatives of networks with respect to their inputs, by one forward propagation of Taylor series."""

import functools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sciml.errors import UserError
from sciml.pde import series
from sciml.pde.jets import Jet, NoRule
from sciml.pde.series import Order, index_set
from sciml.pde.tape import ACTIVE

BLOCK_BYTES = 1 << 21
"""Size of one layer's series: points go in blocks so small that the work stays in a core's cache."""


def derivatives(network: nn.Module, points: Tensor, orders: Sequence[Order]) -> Tensor:
    """Return partial derivatives of a network's outputs, ``D^a u(x)`` for each wanted multi-index a.

    One forward pass carries the Taylor series of every layer; the result can be differentiated once with
    respect to the network's parameters. The network must treat each row alone. One that uses an operation
    without a rule for series is differentiated by nested ``torch.func.jvp`` instead.

    Args:
        network: maps (n, d) to (n, outputs).
        points: shape (n, d).
        orders: the multi-indices, of length d: ``(2, 0)`` is the second derivative along the first input.

    Returns:
        Shape (len(orders), n, outputs).

    Raises:
        UserError: a multi-index of another length than the points, or with a negative entry.
    """
    wanted = tuple(tuple(order) for order in orders)
    width = points.shape[1]
    for order in wanted:
        if len(order) != width or min(order) < 0:
            raise UserError(f"expected multi-indices of {width} non-negative orders, one for each input, got {order}")
    tape = ACTIVE.get()
    if tape is None and not any(map(sum, wanted)):
        value = network(points)
        return value.expand(len(wanted), *value.shape)
    try:
        return _propagate(network, points, wanted)
    except (NoRule, TypeError) as error:  # TypeError: an operator that a Jet lacks; a true mistake comes up again
        if tape is not None:
            raise UserError(
                f"Gauss-Newton needs a rule for each operation of the network, there is none for {error}"
            ) from None
        return torch.stack([_nested(network, order)(points) for order in wanted])


def _propagate(network: nn.Module, points: Tensor, wanted: tuple[Order, ...]) -> Tensor:
    index = index_set(wanted)
    places = [(index.orders.index(a), series.factorial(a)) for a in wanted]
    parts = []
    tape = ACTIVE.get()
    start = 0
    for block in points.split(_rows(network, points, len(index))):
        if tape is not None:
            tape.start = start
        start += len(block)
        jet = network(Jet.variable(block, index))
        if not isinstance(jet, Jet):
            raise NoRule("a constant")
        zero = jet.stack.new_zeros(()).expand(jet.shape)
        parts.append(torch.stack([jet.stack[k] * scale if k < len(jet.stack) else zero for k, scale in places]))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _rows(network: nn.Module, points: Tensor, coefficients: int) -> int:
    """Return how many points go in one block: equal blocks on a CPU, all at once on a GPU."""
    if points.is_cuda or not len(points):
        return max(1, len(points))
    width = max((p.shape[0] for p in network.parameters() if p.ndim), default=1)
    most = max(64, BLOCK_BYTES // (coefficients * width * points.element_size()))
    return math.ceil(len(points) / math.ceil(len(points) / most))


def _nested(function: Callable[[Tensor], Tensor], order: Order) -> Callable[[Tensor], Tensor]:
    for axis, times in enumerate(order):
        for _ in range(times):
            function = functools.partial(_along, function, axis)
    return function


def _along(function: Callable[[Tensor], Tensor], axis: int, points: Tensor) -> Tensor:
    direction = torch.zeros_like(points)
    direction[:, axis] = 1
    return torch.func.jvp(function, (points,), (direction,))[1]
