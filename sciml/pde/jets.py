"""Taylor series that pass through modules in the place of tensors."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sciml.pde import series
from sciml.pde.series import IndexSet, Riccati
from sciml.pde.tape import ACTIVE


class NoRule(Exception):
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
            raise NoRule(func)
        return rule(*args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        rule = _RULES.get(getattr(torch, name, None))
        if rule is None:
            raise NoRule(name)
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
        return _subtract(self, other)

    def __rsub__(self, other: Any) -> "Jet":
        return _subtract(other, self)

    def __neg__(self) -> "Jet":
        return Jet(-self.stack, self.index)

    def __mul__(self, other: Any) -> "Jet":
        return _multiply(self, other)

    def __truediv__(self, other: Any) -> "Jet":
        return _multiply(self, _divided(other))

    def __rtruediv__(self, other: Any) -> "Jet":
        return _multiply(_divided(self), other)

    def __pow__(self, exponent: Any) -> "Jet":
        return _power(self, exponent)

    def __rpow__(self, base: Any) -> "Jet":
        return _power(base, self)

    def __matmul__(self, weight: Tensor) -> "Jet":
        return _linear(self, weight.T)

    __radd__ = __add__
    __rmul__ = __mul__


def _linear(x: Any, weight: Any, bias: Any = None) -> Jet:
    if isinstance(weight, Jet) or isinstance(bias, Jet) or weight.ndim != 2 or x.stack.ndim != 3:
        raise NoRule("linear")
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


def _subtract(f: Any, g: Any) -> Jet:
    return _add(f, -g) if isinstance(g, Jet) else -_add(-f, g)  # a parameter stays as it is, so that it is told apart


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


def _power(base: Any, exponent: Any) -> Jet:
    if isinstance(base, Jet) and isinstance(exponent, int | float) and float(exponent).is_integer():
        if exponent == 0:
            return _multiply(base, 0.0) + 1.0
        product = functools.reduce(_multiply, [base] * abs(int(exponent)))
        return product if exponent > 0 else 1 / product
    logarithm: Any = _LOGARITHM(base) if isinstance(base, Jet) else math.log(base)
    return _EXP(logarithm * exponent)


def _integrated(function: Callable[[Tensor], Tensor], slope: Callable[[Jet], Jet], x: Jet) -> Jet:
    """Return the series of a function from that of its derivative."""
    z, first = x.stack, slope(x).stack
    y = [function(z[0])]
    for a, terms in enumerate(x.index.chain[1:], start=1):
        products = [w * z[b] * first[c] for b, c, w in terms if b < len(z) and c < len(first)]
        y.append(sum(products, z[a] * first[0] if a < len(z) else torch.zeros_like(z[0])))
    return Jet(torch.stack(y), x.index)


_TANH = Riccati(torch.tanh, 1.0, 0.0, -1.0)
_LOGISTIC = Riccati(torch.sigmoid, 0.0, 1.0, -1.0)
_EXP = functools.partial(_pointwise, Riccati(torch.exp, 0.0, 1.0, 0.0))
_RECIPROCAL = Riccati(torch.reciprocal, 0.0, 0.0, -1.0)
_TANGENT = Riccati(torch.tan, 1.0, 0.0, 1.0)
_LOGARITHM = functools.partial(_integrated, torch.log, lambda x: 1 / x)
_SLOPES: dict[Callable[[Tensor], Tensor], Callable[[Jet], Jet]] = {
    torch.asin: lambda x: (1 - x * x) ** -0.5,
    torch.acos: lambda x: -((1 - x * x) ** -0.5),
    torch.atan: lambda x: 1 / (1 + x * x),
    torch.asinh: lambda x: (1 + x * x) ** -0.5,
    torch.erf: lambda x: _EXP(-x * x) * (2 / math.sqrt(math.pi)),
}
"""Functions by their derivatives, for conditions that are built into a network."""

_RULES: dict[Any, Callable[..., Any]] = {
    F.linear: _linear,
    torch.tanh: functools.partial(_pointwise, _TANH),
    torch.sigmoid: functools.partial(_pointwise, _LOGISTIC),
    torch.exp: _EXP,
    torch.reciprocal: functools.partial(_pointwise, _RECIPROCAL),
    torch.tan: functools.partial(_pointwise, _TANGENT),
    torch.sinh: lambda x: 0.5 * (_EXP(x) - _EXP(-x)),
    torch.cosh: lambda x: 0.5 * (_EXP(x) + _EXP(-x)),
    torch.sqrt: lambda x: x**0.5,
    torch.pow: _power,
    torch.log: _LOGARITHM,
    torch.sin: _sine,
    torch.cos: _cosine,
    F.silu: _silu,
    torch.cat: _cat,
    torch.chunk: _chunk,
    torch.add: _add,
    torch.sub: _subtract,
    torch.mul: _multiply,
    torch.neg: lambda f: -f,
    torch.square: lambda f: _multiply(f, f),
}
_RULES |= {function: functools.partial(_integrated, function, slope) for function, slope in _SLOPES.items()}
_RULES |= {
    torch.Tensor.add: _add,
    torch.Tensor.mul: _multiply,
    torch.Tensor.sub: _subtract,
}
