"""Fields: equations written once as on paper, traced into expressions that every interpreter evaluates.

``equations(self, u)`` runs once on symbolic fields. What remains is an expression over the derivatives of the
fields and the coordinates, and a list of the derivatives it needs; a network, a grid, a peer or a printer
then supplies the values of those derivatives.
"""

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import sympy
import torch

from sciml.errors import UserError, did_you_mean
from sciml.pde.expressions import EXACT, FUNCTIONS, Abs, compiled, differentiate

Array = Any
"""A torch tensor or a numpy array."""


class NoDerivative(UserError, AttributeError):
    """There is no such derivative; an AttributeError too, so that Python may ask a field what it has."""


class Field:
    """A scalar expression in space and time; derivatives are attributes: ``u.t``, ``u.xx``, ``(k * u.x).x``.

    A derivative is that almost everywhere: ``abs(u).x`` is ``sign(u) * u.x``, and ``sign(u).x`` is zero.

    Args:
        expression: a sympy expression in the axes' symbols.
        axes: the names of the axes, in order.
        normal: whether an outward normal is at hand, so that ``u.normal`` is the normal derivative.
    """

    __slots__ = ("axes", "expression", "normal_known")

    def __init__(self, expression: sympy.Expr, axes: tuple[str, ...], normal: bool = False) -> None:
        self.expression = expression
        self.axes = axes
        self.normal_known = normal

    def diff(self, *axes: str) -> "Field":
        """Return the derivative along the named axes, one after the other: ``u.diff("radius", "radius")``.

        Raises:
            NoDerivative: an axis that does not exist.
        """
        for axis in axes:
            if axis not in self.axes:
                known = ", ".join(self.axes)
                raise NoDerivative(
                    f"no axis {axis!r} to differentiate along{did_you_mean(axis, self.axes)} (axes: {known})"
                )
        derivative = self.expression
        for axis in axes:
            derivative = differentiate(derivative, symbol(axis))
        return self._like(derivative)

    def __getattr__(self, name: str) -> "Field":
        if name.startswith("_"):
            raise AttributeError(name)
        if name == "normal" and self.normal_known:
            return self._like(sum(symbol(normal_name(a)) * self.diff(a).expression for a in space_axes(self.axes)))
        if name in self.axes:
            return self.diff(name)
        if all(letter in self.axes for letter in name):
            return self.diff(*name)
        only = "; a normal derivative stands in a boundary condition only" if name == "normal" else ""
        raise NoDerivative(f"no axis for the derivative .{name} (axes: {', '.join(self.axes)}{only})")

    def _like(self, expression: Any) -> "Field":
        return Field(sympy.sympify(expression), self.axes, self.normal_known)

    def _apply(self, function: Callable[..., Any], *operands: Any) -> "Field":
        return self._like(function(*map(_expression, operands)))

    def __add__(self, other: Any) -> "Field":
        return self._apply(lambda a, b: a + b, self, other)

    def __sub__(self, other: Any) -> "Field":
        return self._apply(lambda a, b: a - b, self, other)

    def __rsub__(self, other: Any) -> "Field":
        return self._apply(lambda a, b: a - b, other, self)

    def __mul__(self, other: Any) -> "Field":
        return self._apply(lambda a, b: a * b, self, other)

    def __truediv__(self, other: Any) -> "Field":
        return self._apply(lambda a, b: a / b, self, other)

    def __rtruediv__(self, other: Any) -> "Field":
        return self._apply(lambda a, b: a / b, other, self)

    def __pow__(self, other: Any) -> "Field":
        return self._apply(lambda a, b: a**b, self, other)

    def __rpow__(self, other: Any) -> "Field":
        return self._apply(lambda a, b: a**b, other, self)

    def __neg__(self) -> "Field":
        return self._like(-self.expression)

    def __pos__(self) -> "Field":
        return self

    def __abs__(self) -> "Field":
        return self._apply(Abs, self)

    __radd__ = __add__
    __rmul__ = __mul__

    def __bool__(self, *_: Any) -> bool:
        raise UserError("a field has no truth value; write a condition on a part of the domain instead of `if`")

    __lt__ = __le__ = __gt__ = __ge__ = __bool__

    def __float__(self) -> float:
        raise UserError("a field is not a number; use torch.sin and friends instead of math.sin")

    def __repr__(self) -> str:
        return f"Field({self.expression})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> "Field":
        return _call(func.__name__, args, kwargs)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> "Field":
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        return _call(name, args, kwargs)


def _call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Field:
    known = FUNCTIONS.get(name)
    if known is None:
        rules = ", ".join(sorted(n for n in FUNCTIONS if not n.startswith("_")))
        raise UserError(f"no rule for {name} of a field{did_you_mean(name, FUNCTIONS)} (known: {rules})")
    like = next((a for a in args if isinstance(a, Field)), None)
    if kwargs or like is None:
        raise UserError(f"{name} of a field expects the field first and no keyword, got {', '.join(kwargs or ())}")
    return like._apply(known, *args)


def _expression(value: Any) -> sympy.Expr:
    if isinstance(value, Field):
        return value.expression
    if isinstance(value, (torch.Tensor, np.ndarray)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, numbers.Integral):
        return sympy.Integer(int(value))
    if isinstance(value, numbers.Real):
        number = float(value)
        turns = number / math.pi
        if turns and turns.is_integer() and turns * math.pi == number:
            return int(turns) * sympy.pi
        exact = number.is_integer() and abs(number) <= EXACT
        return sympy.Integer(int(number)) if exact else sympy.Float(number)
    raise UserError(
        f"a field meets {type(value).__name__}; expected a number, a coordinate or a field "
        "(write coefficients that depend on position as functions of the coordinates)"
    )


def symbol(name: str) -> sympy.Symbol:
    """Return the symbol of a coordinate or of another per-point value."""
    return sympy.Symbol(name, real=True)


def normal_name(axis: str) -> str:
    """Return the name of one component of the outward normal, as relations and points call it."""
    return f"n_{axis}"


def space_axes(axes: Sequence[str]) -> tuple[str, ...]:
    """Return the axes other than time, which is called ``t``."""
    return tuple(a for a in axes if a != "t")


def grad(u: Field) -> tuple[Field, ...]:
    """Return the gradient in space, one field per space axis."""
    return tuple(u.diff(a) for a in space_axes(u.axes))


def divergence(flux: Sequence[Field]) -> Field:
    """Return the divergence of a flux that has one component per space axis.

    Raises:
        UserError: another number of components.
    """
    axes = space_axes(flux[0].axes) if flux else ()
    if not axes or len(flux) != len(axes):
        raise UserError(f"divergence expected one component for each space axis ({', '.join(axes)}), got {len(flux)}")
    return sum((f.diff(a) for f, a in zip(flux[1:], axes[1:], strict=True)), flux[0].diff(axes[0]))


def laplacian(u: Field) -> Field:
    """Return the sum of the second derivatives over the space axes."""
    return divergence(grad(u))


@dataclass(frozen=True, order=True)
class Derivative:
    """``D^order`` of one field: ``Derivative("u", (2, 0))`` on axes (x, t) is u_xx."""

    field: str
    order: tuple[int, ...]

    def along(self, axes: Sequence[str]) -> tuple[str, ...]:
        """Return the axes along which the field is differentiated, each as often as it is."""
        return tuple(a for a, n in zip(axes, self.order, strict=True) for _ in range(n))


@dataclass(frozen=True)
class Relation:
    """One traced scalar equation ``expression = 0`` over derivatives of fields, coordinates and normals.

    Args:
        expression: over the symbols in ``leaves``, of the axes and of the normals.
        leaves: the derivatives needed, with the symbol that stands for each.
        axes: the names of the axes.
    """

    expression: sympy.Expr
    leaves: Mapping[Derivative, sympy.Symbol]
    axes: tuple[str, ...]

    @cached_property
    def needs(self) -> tuple[Derivative, ...]:
        """The derivatives that the expression mentions, sorted."""
        present = self.expression.free_symbols
        return tuple(sorted(d for d, s in self.leaves.items() if s in present))

    @cached_property
    def is_linear(self) -> bool:
        """Whether the expression is affine in the fields and their derivatives."""
        symbols = set(self.leaves.values())
        return not any(self.partial(d).expression.free_symbols & symbols for d in self.needs)

    def partial(self, derivative: Derivative) -> "Relation":
        """Return the partial derivative of the expression with respect to one derivative of a field."""
        if derivative not in self._partials:
            expression = differentiate(self.expression, self.leaves[derivative])
            self._partials[derivative] = Relation(expression, self.leaves, self.axes)
        return self._partials[derivative]

    @cached_property
    def _partials(self) -> dict[Derivative, "Relation"]:
        """What was asked for so far, so that each is differentiated and compiled once."""
        return {}

    def __call__(self, values: Mapping[Derivative, Array], arguments: Mapping[str, Array]) -> Array:
        """Evaluate on arrays of one shape, of torch or numpy.

        Args:
            values: an array for each derivative in ``needs``.
            arguments: an array for each coordinate and any other symbol of the expression (normals, observed
                values), by name, of the shape of the result.

        Raises:
            UserError: arrays of different shapes, which would broadcast.
        """
        like = next(iter(arguments.values()))
        operands = {
            **{str(d): values[d] for d in self.needs},
            **{name: arguments[name] for name in self._others},
        }
        for name, operand in operands.items():
            if operand.shape != like.shape:
                raise UserError(f"{name} has shape {tuple(operand.shape)}, the coordinates {tuple(like.shape)}")
        if not isinstance(like, torch.Tensor):
            result = self._numpy(*operands.values())
            return np.broadcast_to(np.asarray(result, dtype=float), like.shape)
        result = self._torch(*operands.values())
        if isinstance(result, torch.Tensor):
            return result
        return torch.as_tensor(result, dtype=like.dtype, device=like.device).expand(like.shape)

    @cached_property
    def _others(self) -> tuple[str, ...]:
        return tuple(sorted(str(s) for s in self.expression.free_symbols - set(self.leaves.values())))

    @property
    def _arguments(self) -> list[sympy.Symbol]:
        return [self.leaves[d] for d in self.needs] + [symbol(name) for name in self._others]

    @cached_property
    def _numpy(self) -> Callable[..., Array]:
        return compiled(self._arguments, self.expression, False)

    @cached_property
    def _torch(self) -> Callable[..., Array]:
        return compiled(self._arguments, self.expression, True)

    def latex(self) -> str:
        """Return the equation as LaTeX, with subscripts for derivatives."""
        names = {leaf: _latex_name(d, self.axes) for d, leaf in self.leaves.items()}
        return sympy.latex(self.expression, symbol_names=names) + " = 0"

    def __str__(self) -> str:
        return f"{self.expression} = 0"


def _latex_name(derivative: Derivative, axes: Sequence[str]) -> str:
    field, *along = (sympy.latex(sympy.Symbol(name)) for name in (derivative.field, *derivative.along(axes)))
    field = f"{{{field}}}" if "_" in field else field
    joint = "" if all(len(a) == 1 for a in along) else " "
    return f"{field}_{{{joint.join(along)}}}" if along else field
