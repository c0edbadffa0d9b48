"""Truncated Taylor series of several variables, stacked in one tensor, with hand-written reverse passes.

A series holds the coefficients ``c_a = D^a f / a!`` for the multi-indices a of a downward closed set, the
value first, as a tensor of shape (m, ...). Where m is less than the size of the set, the others are zero.
Multiplication is ``(f g)_a = Σ_{b+c=a} f_b g_c``, and ``y = f(z)`` obeys
``a_i y_a = Σ_{b+c=a} b_i z_b f'(z)_c`` for any axis i with a_i > 0. The reverse pass of ``y = f(z)`` is the
transposed product with the series of ``f'(z)``.
Source: A. Griewank, A. Walther, Evaluating Derivatives, 2nd ed. 2008, chapter 13.
"""

# pyright: reportIncompatibleMethodOverride=false
# (once_differentiable hides the names of the arguments of a backward method)

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

Order = tuple[int, ...]
Terms = tuple[tuple[int, int, float], ...]
"""Products ``weight * f_b * g_c`` as (b, c, weight)."""


@dataclass(frozen=True)
class IndexSet:
    """A downward closed set of multi-indices and the products between its members.

    Args:
        orders: the multi-indices by total degree, zero first.
        products: for each a, all pairs b + c = a.
        chain: for each a, the terms of the chain rule with b and c nonzero, weighted b_i / a_i.
        squares: for each a, unordered pairs b + c = a with b and c nonzero, weighted 1/2 where b = c.
        above: for each b, the pairs (a, c) with a = b + c: the transposed product.
        slopes: how many leading coefficients of f'(z) the chain rule uses.
    """

    orders: tuple[Order, ...]
    products: tuple[Terms, ...]
    chain: tuple[Terms, ...]
    squares: tuple[Terms, ...]
    above: tuple[Terms, ...]
    slopes: int

    def __len__(self) -> int:
        return len(self.orders)


@lru_cache(maxsize=256)
def index_set(wanted: tuple[Order, ...]) -> IndexSet:
    """Return the least downward closed set with every wanted multi-index and every first derivative."""
    axes = len(wanted[0])
    units = [tuple(int(i == j) for j in range(axes)) for i in range(axes)]
    closure = {b for a in (*wanted, *units) for b in itertools.product(*(range(k + 1) for k in a))}
    orders = sorted(closure, key=lambda a: (sum(a), tuple(-k for k in a)))
    place = {a: k for k, a in enumerate(orders)}

    def pairs(a: Order) -> Terms:
        below = itertools.product(*(range(k + 1) for k in a))
        return tuple((place[b], place[tuple(p - q for p, q in zip(a, b, strict=True))], 1.0) for b in below)

    def chain(a: Order) -> Terms:
        axis = min((i for i, k in enumerate(a) if k), key=lambda i: a[i], default=0)
        return tuple((b, c, orders[b][axis] / a[axis]) for b, c, _ in pairs(a) if b and c and orders[b][axis])

    products, chains = tuple(map(pairs, orders)), tuple(map(chain, orders))
    return IndexSet(
        orders=tuple(orders),
        products=products,
        chain=chains,
        squares=tuple(tuple((b, c, 0.5 if b == c else 1.0) for b, c, _ in t if 0 < b <= c) for t in products),
        above=tuple(
            tuple((a, c, 1.0) for a, terms in enumerate(products) for e, c, _ in terms if e == b)
            for b in range(len(orders))
        ),
        slopes=max((c + 1 for terms in chains for _, c, _ in terms), default=1),
    )


def factorial(order: Order) -> int:
    """Return ``a!``, the product of the factorials of a multi-index."""
    return math.prod(map(math.factorial, order))


def _add_products(out: Tensor, f: Tensor, g: Tensor, terms: Terms, scale: float = 1.0) -> None:
    """Add ``scale * Σ weight f_b g_c`` to ``out``; coefficients that a factor leaves out are zero."""
    for b, c, weight in terms:
        if b < len(f) and c < len(g):
            out.addcmul_(f[b], g[c], value=weight * scale)


def _transposed(grad: Tensor, factor: Tensor, size: int, index: IndexSet, scale: float = 1.0) -> Tensor:
    """Return ``Σ_{a=b+c} grad_a factor_c`` for the first ``size`` b; ``scale`` multiplies c ≠ 0."""
    out = grad[:size] * factor[0]
    for b in range(size):
        _add_products(out[b], grad, factor, tuple(t for t in index.above[b] if t[1]), scale)
    return out


def _open(z: Tensor, value: Tensor, slope: Tensor, index: IndexSet) -> Tensor:
    """Return ``y_0 = value`` and ``y_a = slope z_a``: the chain rule without its products of higher terms."""
    y = _empty(z, len(index))
    y[0] = value
    torch.mul(z[1:], slope, out=y[1 : len(z)])
    y[len(z) :] = 0
    return y


def _empty(like: Tensor, size: int) -> Tensor:
    """Return an uninitialised series of ``size`` coefficients, its points contiguous as in ``linear``."""
    shape = like.shape[1:]
    if len(shape) != 2:
        return like.new_empty((size, *shape))
    return like.new_empty((shape[1], size, shape[0])).permute(1, 2, 0)


@dataclass(frozen=True)
class Riccati:
    """A function with ``f' = alpha + beta f + gamma f²``: tanh, logistic, exp, the reciprocal."""

    value: Callable[[Tensor], Tensor]
    alpha: float
    beta: float
    gamma: float

    @property
    def scale(self) -> float:
        """The factor left out of the slope's coefficients after the first."""
        return 2 * self.gamma or self.beta

    def slope(self, y: Tensor, which: Sequence[int], index: IndexSet, out: Tensor) -> None:
        """Write ``f'(z)_a / scale`` for the consecutive nonzero a in ``which``, and ``f'(z)_0`` for a = 0."""
        if which[0] == 0:
            self._first(y[0], out[0])
            which = which[1:]
        if not which:
            return
        span = slice(which[0], which[-1] + 1)
        if not self.gamma:
            out[span] = y[span]
            return
        torch.mul(y[span], y[0] + self.beta / (2 * self.gamma) if self.beta else y[0], out=out[span])
        for a in which:
            _add_products(out[a], y, y, index.squares[a])

    def _first(self, value: Tensor, out: Tensor) -> None:
        base = value * self.beta + self.alpha if self.beta else value.new_full((), self.alpha)
        torch.addcmul(base, value, value, value=self.gamma, out=out)


class _Riccati(Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, rule: Riccati, index: IndexSet) -> Tensor:
        slope = _empty(z, index.slopes)
        value = rule.value(z[0])
        rule.slope(value[None], (0,), index, slope)
        y = _open(z, value, slope[0], index)
        for a in range(1, len(index)):
            _add_products(y[a], z, slope, index.chain[a], rule.scale)
            if a < index.slopes:
                rule.slope(y, (a,), index, slope)
        ctx.save_for_backward(y)
        ctx.rule, ctx.index, ctx.size = rule, index, len(z)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        slope = torch.empty_like(y)
        ctx.rule.slope(y, range(len(y)), ctx.index, slope)
        return _transposed(grad, slope, ctx.size, ctx.index, ctx.rule.scale), None, None


class _Circular(Function):
    """``sin(z + phase)``, whose slope ``cos(z + phase)`` has the slope ``-sin(z + phase)``."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, cosine: bool, index: IndexSet) -> Tensor:
        first, second, sign = (torch.cos, torch.sin, -1.0) if cosine else (torch.sin, torch.cos, 1.0)
        value, partner = first(z[0]), second(z[0])
        y, slope = _open(z, value, sign * partner, index), _open(z, sign * partner, -value, index)
        for a in range(1, len(index)):
            _add_products(y[a], z, slope, index.chain[a])
            _add_products(slope[a], z, y, index.chain[a], -1.0)
        ctx.save_for_backward(slope)
        ctx.index, ctx.size = index, len(z)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return _transposed(grad, slope, ctx.size, ctx.index), None, None


class _Product(Function):
    @staticmethod
    def forward(ctx: Any, f: Tensor, g: Tensor, index: IndexSet) -> Tensor:
        y = _open(f, f[0] * g[0], g[0], index)
        for a in range(1, len(index)):
            _add_products(y[a], f, g, tuple(t for t in index.products[a] if t[1]))
        ctx.save_for_backward(f, g)
        ctx.index = index
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        f, g = ctx.saved_tensors
        return _transposed(grad, g, len(f), ctx.index), _transposed(grad, f, len(g), ctx.index), None


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        m, n, _ = x.shape
        y = (weight @ _columns(x)).view(-1, m, n)
        if bias is not None:
            y[:, 0] += bias[:, None]
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return y.permute(1, 2, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        flat = _columns(grad)
        to_x = (weight.T @ flat).view(-1, *x.shape[:2]).permute(1, 2, 0) if ctx.needs_input_grad[0] else None
        to_weight = flat @ _columns(x).T if ctx.needs_input_grad[1] else None
        to_bias = grad[0].sum(dim=0) if ctx.biased and ctx.needs_input_grad[2] else None
        return to_x, to_weight, to_bias


def _columns(x: Tensor) -> Tensor:
    """Return a series (m, n, width) as a matrix (width, m * n), a view where the points are contiguous."""
    return x.permute(2, 0, 1).reshape(x.shape[2], -1)


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, f: Tensor, g: Tensor) -> Tensor:
        ctx.sizes = len(f), len(g)
        long, short = (f, g) if len(f) >= len(g) else (g, f)
        y = _empty(long, len(long))
        y.copy_(long)
        y[: len(short)] += short
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(grad[:size] for size in ctx.sizes)


def apply(rule: Riccati, z: Tensor, index: IndexSet) -> Tensor:
    """Return the series of ``f(z)``."""
    return _call(_Riccati, z, rule, index)


def sine(z: Tensor, index: IndexSet) -> Tensor:
    """Return the series of ``sin(z)``."""
    return _call(_Circular, z, False, index)


def cosine(z: Tensor, index: IndexSet) -> Tensor:
    """Return the series of ``cos(z)``."""
    return _call(_Circular, z, True, index)


def multiply(f: Tensor, g: Tensor, index: IndexSet) -> Tensor:
    """Return the truncated product of two series of one shape."""
    return _call(_Product, f, g, index)


def add(f: Tensor, g: Tensor) -> Tensor:
    """Return the sum of two series of one shape (m, n, width), each with its own m."""
    return _call(_Sum, f, g)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the series of ``x weightᵀ + bias`` for x of shape (m, n, inputs)."""
    return _call(_Linear, x, weight, bias)


def _call(function: type[Function], *arguments: Any) -> Tensor:
    return function.apply(*arguments)  # pyright: ignore[reportReturnType]
