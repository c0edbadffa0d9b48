"""Derivatives of networks with respect to their inputs, by one forward propagation of Taylor series."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sciml.errors import UserError
from sciml.pde import series
from sciml.pde.series import IndexSet, Order, Riccati, index_set
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
    except (_NoRule, TypeError) as error:  # TypeError: an operator that a Jet lacks; a true mistake comes up again
        if tape is not None:
            raise UserError(f"Gauss-Newton needs a rule for each operation of the network, there is none for {error}") from None
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
            raise _NoRule("a constant")
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


class _NoRule(Exception):
    """A network used an operation that has no rule for series."""


class Jet:
    """The Taylor series of a tensor in the network's inputs; it passes through modules in its place.

    Args:
        stack: coefficients, shape (m, n, ...); see `sciml.pde.series`.
        index: the multi-indices of the coefficients.
    """

    __slots__ = ("index", "stack")

    def __init__(self, stack: Tensor, index: IndexSet) -> None:
        self.stack = stack
        self.index = index

    @classmethod
    def variable(cls, points: Tensor, index: IndexSet) -> "Jet":
        """Return the series of the inputs: their values, and one for the derivative along themselves."""
        n, width = points.shape
        memory = points.new_zeros((width, 1 + width, n))
        memory[:, 0] = points.T
        for axis in range(width):
            memory[axis, 1 + axis] = 1
        return cls(memory.permute(1, 2, 0), index)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> "Jet":
        rule = _RULES.get(func)
        if rule is None:
            raise _NoRule(func)
        return rule(*args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        rule = _RULES.get(getattr(torch, name, None))
        if rule is None:
            raise _NoRule(name)
        return functools.partial(rule, self)

    @property
    def shape(self) -> torch.Size:
        return self.stack.shape[1:]

    @property
    def dtype(self) -> torch.dtype:
        return self.stack.dtype

    @property
    def device(self) -> torch.device:
        return self.stack.device

    def __getitem__(self, key: Any) -> "Jet":
        return Jet(self.stack[(slice(None), *(key if isinstance(key, tuple) else (key,)))], self.index)

    def __add__(self, other: Any) -> "Jet":
        return _add(self, other)

    def __sub__(self, other: Any) -> "Jet":
        return _add(self, -other)

    def __rsub__(self, other: Any) -> "Jet":
        return _add(-self, other)

    def __neg__(self) -> "Jet":
        return Jet(-self.stack, self.index)

    def __mul__(self, other: Any) -> "Jet":
        return _multiply(self, other)

    def __truediv__(self, other: Any) -> "Jet":
        return _multiply(self, _divided(other))

    def __rtruediv__(self, other: Any) -> "Jet":
        return _multiply(_divided(self), other)

    def __pow__(self, exponent: Any) -> "Jet":
        if not (isinstance(exponent, int) and exponent >= 1):
            raise _NoRule(f"power {exponent}")
        return functools.reduce(_multiply, [self] * exponent)

    def __matmul__(self, weight: Tensor) -> "Jet":
        return _linear(self, weight.T)

    __radd__ = __add__
    __rmul__ = __mul__


def _linear(x: Any, weight: Any, bias: Any = None) -> Jet:
    if isinstance(weight, Jet) or isinstance(bias, Jet) or weight.ndim != 2 or x.stack.ndim != 3:
        raise _NoRule("linear")
    tape = ACTIVE.get()
    return Jet((series if tape is None else tape).linear(x.stack, weight, bias), x.index)


def _pointwise(rule: Riccati, x: Jet) -> Jet:
    return Jet(series.apply(rule, x.stack, x.index), x.index)


def _sine(x: Jet) -> Jet:
    return Jet(series.sine(x.stack, x.index), x.index)


def _cosine(x: Jet) -> Jet:
    return Jet(series.cosine(x.stack, x.index), x.index)


def _told_apart(operand: Any, partner: Jet) -> Any:
    """Return a parameter once for each row of its partner where rows are recorded; else the operand."""
    tape = ACTIVE.get()
    return tape.rows(operand, partner.shape[0]) if tape is not None and tape.holds(operand) else operand


def _add(f: Any, g: Any) -> Jet:
    f, g = (f, _told_apart(g, f)) if isinstance(f, Jet) else (g, _told_apart(f, g))
    constant = not isinstance(g, Jet)
    other = torch.as_tensor(g, dtype=f.dtype, device=f.device)[None] if constant else g.stack
    shape = torch.broadcast_shapes(f.shape, other.shape[1:])
    first, second = (s.expand(len(s), *shape) for s in (f.stack, other))
    return Jet(series.add(first, second), f.index)


def _multiply(f: Any, g: Any) -> Jet:
    f, g = (f, _told_apart(g, f)) if isinstance(f, Jet) else (g, _told_apart(f, g))
    if not isinstance(g, Jet):
        return Jet(f.stack * g, f.index)
    shape = torch.broadcast_shapes(f.shape, g.shape)
    first, second = (s.expand(len(s), *shape) for s in (f.stack, g.stack))
    return Jet(series.multiply(first, second, f.index), f.index)


def _divided(divisor: Any) -> Any:
    return _pointwise(_RECIPROCAL, divisor) if isinstance(divisor, Jet) else 1 / divisor


def _cat(tensors: Sequence[Any], dim: int = 0) -> Jet:
    first = next(t for t in tensors if isinstance(t, Jet))
    stacks = [t.stack if isinstance(t, Jet) else t[None] for t in tensors]
    longest = max(map(len, stacks))
    axis = dim + 1 if dim >= 0 else dim
    padded = [torch.cat([s, s.new_zeros((longest - len(s), *s.shape[1:]))]) if len(s) < longest else s for s in stacks]
    return Jet(torch.cat(padded, dim=axis), first.index)


def _chunk(x: Jet, chunks: int, dim: int = 0) -> tuple[Jet, ...]:
    return tuple(Jet(s, x.index) for s in x.stack.chunk(chunks, dim + 1 if dim >= 0 else dim))


def _silu(x: Jet, inplace: bool = False) -> Jet:
    return _multiply(x, _pointwise(_LOGISTIC, x))


_TANH = Riccati(torch.tanh, 1.0, 0.0, -1.0)
_LOGISTIC = Riccati(torch.sigmoid, 0.0, 1.0, -1.0)
_EXPONENTIAL = Riccati(torch.exp, 0.0, 1.0, 0.0)
_RECIPROCAL = Riccati(torch.reciprocal, 0.0, 0.0, -1.0)

_RULES: dict[Any, Callable[..., Any]] = {
    F.linear: _linear,
    torch.tanh: functools.partial(_pointwise, _TANH),
    torch.sigmoid: functools.partial(_pointwise, _LOGISTIC),
    torch.exp: functools.partial(_pointwise, _EXPONENTIAL),
    torch.reciprocal: functools.partial(_pointwise, _RECIPROCAL),
    torch.sin: _sine,
    torch.cos: _cosine,
    F.silu: _silu,
    torch.cat: _cat,
    torch.chunk: _chunk,
    torch.add: _add,
    torch.sub: lambda f, g: _add(f, -g),
    torch.mul: _multiply,
    torch.neg: lambda f: -f,
    torch.square: lambda f: _multiply(f, f),
}
_RULES |= {
    torch.Tensor.add: _add,
    torch.Tensor.mul: _multiply,
    torch.Tensor.__rsub__: lambda a, b: _add(b, -a),
}
