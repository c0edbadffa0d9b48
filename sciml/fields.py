"""Fields: equations written once as on paper, traced into expressions that every interpreter evaluates.

``equations(self, u)`` runs once on symbolic fields. What remains is an expression over the derivatives of the
fields and the coordinates, and a list of the derivatives it needs; a network, a grid, a peer or a printer then supplies
the values of those derivatives.
"""

import inspect
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import sympy
import torch
from sympy.core.function import AppliedUndef
from sympy.printing.lambdarepr import LambdaPrinter

from sciml.errors import UserError, did_you_mean

Array = Any
"""A torch tensor or a numpy array."""

_FUNCTIONS: dict[str, Any] = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "arcsin": sympy.asin, "arccos": sympy.acos,
    "arctan": sympy.atan, "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh, "exp": sympy.exp,
    "log": sympy.log, "sqrt": sympy.sqrt, "abs": sympy.Abs, "sign": sympy.sign, "erf": sympy.erf,
    "square": lambda a: a**2, "reciprocal": lambda a: 1 / a, "neg": lambda a: -a, "negative": lambda a: -a,
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "subtract": lambda a, b: a - b,
    "mul": lambda a, b: a * b, "multiply": lambda a, b: a * b, "div": lambda a, b: a / b,
    "true_divide": lambda a, b: a / b, "divide": lambda a, b: a / b, "pow": lambda a, b: a**b,
    "power": lambda a, b: a**b, "float_power": lambda a, b: a**b, "absolute": sympy.Abs,
    "asin": sympy.asin, "acos": sympy.acos, "atan": sympy.atan,
    "rsub": lambda a, b: b - a, "__rpow__": lambda a, b: b**a, "__rsub__": lambda a, b: b - a,
    "__rdiv__": lambda a, b: b / a, "rdiv": lambda a, b: b / a,
}  # fmt: skip

class Field:
    """A scalar expression in space and time whose derivatives are attributes: ``u.t``, ``u.xx``, ``(k * u.x).x``.

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
        """Return the derivative along the named axes, one after the other.

        Raises:
            UserError: an axis that does not exist.
        """
        for axis in axes:
            if axis not in self.axes:
                raise UserError(f"no axis {axis!r} to differentiate along{did_you_mean(axis, self.axes)} (axes: {', '.join(self.axes)})")
        return self._like(sympy.diff(self.expression, *map(symbol, axes)) if axes else self.expression)

    def __getattr__(self, name: str) -> "Field":
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "normal" and self.normal_known and "normal" not in self.axes:
            return self._like(sum(symbol(normal_name(a)) * sympy.diff(self.expression, symbol(a)) for a in space_axes(self.axes)))
        if name in self.axes:
            return self.diff(name)
        if all(letter in self.axes for letter in name):
            return self.diff(*name)
        raise UserError(f"no axis for the derivative .{name} (axes: {', '.join(self.axes)}; a normal derivative only in a boundary condition)")

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
        return self._apply(sympy.Abs, self)

    __radd__ = __add__
    __rmul__ = __mul__

    def __bool__(self) -> bool:
        raise UserError("a field has no truth value; write a condition on a part of the domain instead of `if`")

    def __float__(self) -> float:
        raise UserError("a field is not a number; use torch.sin and friends instead of math.sin")

    def __repr__(self) -> str:
        return f"Field({self.expression})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> "Field":
        return _call(func.__name__, args, kwargs)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> "Field":
        return _call(ufunc.__name__, args, kwargs)


def _call(name: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Field:
    known = _FUNCTIONS.get(name)
    if known is None or kwargs:
        raise UserError(f"no rule for {name} of a field{did_you_mean(name, _FUNCTIONS)} (known: {', '.join(sorted(_FUNCTIONS))})")
    like = next(a for a in args if isinstance(a, Field))
    return like._apply(known, *args)


def _expression(value: Any) -> sympy.Expr:
    if isinstance(value, Field):
        return value.expression
    if isinstance(value, (torch.Tensor, np.ndarray)) and value.ndim == 0:
        value = value.item()
    if isinstance(value, numbers.Integral):
        return sympy.Integer(int(value))
    if isinstance(value, numbers.Real):
        return sympy.Integer(int(value)) if float(value).is_integer() else sympy.Float(float(value))
    raise UserError(f"a field meets {type(value).__name__}; expected a number, a coordinate or a field (write position-dependent coefficients as functions of the coordinates)")


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
    """Return the divergence of a flux that has one component per space axis."""
    axes = space_axes(flux[0].axes)
    if len(flux) != len(axes):
        raise UserError(f"divergence expected {len(axes)} components for axes {', '.join(axes)}, got {len(flux)}")
    return sum((f.diff(a) for f, a in zip(flux[1:], axes[1:], strict=True)), flux[0].diff(axes[0]))


def laplacian(u: Field) -> Field:
    """Return the sum of the second derivatives over the space axes."""
    return divergence(grad(u))


@dataclass(frozen=True, order=True)
class Derivative:
    """``D^order`` of one field: ``Derivative("u", (2, 0))`` on axes (x, t) is u_xx."""

    field: str
    order: tuple[int, ...]


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
        return Relation(sympy.diff(self.expression, self.leaves[derivative]), self.leaves, self.axes)

    def __call__(self, values: Mapping[Derivative, Array], arguments: Mapping[str, Array]) -> Array:
        """Evaluate on arrays of one shape, of torch or numpy.

        Args:
            values: an array for each derivative in ``needs``.
            arguments: an array for each coordinate and any other symbol of the expression (normals, observed
                values), by name, of the shape of the result.
        """
        like = next(iter(arguments.values()))
        torchy = isinstance(like, torch.Tensor)
        operands = [values[d] for d in self.needs] + [arguments[name] for name in self._others]
        result = self._compiled[torchy](*operands)
        if not torchy:
            return np.broadcast_to(np.asarray(result, dtype=float), like.shape)
        if isinstance(result, torch.Tensor) and result.shape == like.shape:
            return result
        return torch.as_tensor(result, dtype=like.dtype, device=like.device).expand(like.shape)

    @cached_property
    def _others(self) -> tuple[str, ...]:
        return tuple(sorted(s.name for s in self.expression.free_symbols - set(self.leaves.values())))

    @cached_property
    def _compiled(self) -> tuple[Callable[..., Array], Callable[..., Array]]:
        arguments = [self.leaves[d] for d in self.needs] + [symbol(name) for name in self._others]
        return _compile(arguments, self.expression, _NUMPY), _compile(arguments, self.expression, _TORCH)

    def latex(self) -> str:
        """Return the equation as LaTeX, with subscripts for derivatives."""
        return sympy.latex(self.expression) + " = 0"

    def __str__(self) -> str:
        return f"{self.expression} = 0"


class _Printer(LambdaPrinter):
    def _print_Float(self, expr: sympy.Float) -> str:
        return repr(float(expr))  # sympy prints 15 digits, a double needs 17



def _erf(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return erf(x)


_NAMES = ("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "log", "sqrt", "abs", "sign")
_TORCH = {name: getattr(torch, name) for name in _NAMES} | {"erf": torch.erf, "pi": np.pi}
_NUMPY = {name: getattr(np, name) for name in _NAMES} | {"erf": _erf, "pi": np.pi}


def _compile(arguments: list[sympy.Symbol], expression: sympy.Expr, namespace: dict[str, Any]) -> Callable[..., Array]:
    printer = _Printer({"fully_qualified_modules": False, "inline": True, "allow_unknown_functions": True})
    return sympy.lambdify(arguments, expression, modules=[namespace], printer=printer, cse=True)


def trace(
    equations: Callable[..., Any],
    fields: Sequence[str],
    axes: Sequence[str],
    normal: bool = False,
    variadic: bool = False,
) -> tuple[Relation, ...]:
    """Run ``equations`` once on symbolic fields and return its residuals as relations.

    Args:
        equations: takes the fields in order, then any coordinates by name; returns one residual or a sequence.
        fields: names of the fields.
        axes: names of the coordinates.
        normal: whether the outward normal is at hand.
        variadic: ``equations`` takes all fields as ``*args`` and no coordinates.

    Raises:
        UserError: an argument that is neither a field nor an axis, or a result that is not a field.
    """
    axes = tuple(axes)
    coordinates = {a: Field(symbol(a), axes, normal) for a in axes}
    unknown = {f: Field(sympy.Function(f)(*map(symbol, axes)), axes, normal) for f in fields}
    arguments = list(unknown.values()) if variadic else []
    positional = iter(fields)
    for name in () if variadic else inspect.signature(equations).parameters:
        if name in coordinates:
            arguments.append(coordinates[name])
        else:
            field = next(positional, None)
            if field is None:
                raise UserError(f"{name!r} is neither a field ({', '.join(fields)}) nor an axis ({', '.join(axes)}); rename the argument")
            arguments.append(unknown[field])
    result = equations(*arguments)
    results = result if isinstance(result, (tuple, list)) else (result,)
    return tuple(_relation(r, axes) for r in results)


def _relation(result: Any, axes: tuple[str, ...]) -> Relation:
    if not isinstance(result, Field):
        raise UserError(f"an equation returned {type(result).__name__}; expected an expression in the fields, such as u.t - u.xx")
    expression = sympy.expand(result.expression.doit()) if result.expression.has(sympy.Subs) else result.expression.doit()
    leaves: dict[Derivative, sympy.Symbol] = {}
    replace: dict[Any, sympy.Symbol] = {}
    for atom in expression.atoms(sympy.Derivative) | expression.atoms(AppliedUndef):
        function = atom.expr if isinstance(atom, sympy.Derivative) else atom
        counts = {str(v): int(n) for v, n in atom.variable_count} if isinstance(atom, sympy.Derivative) else {}
        order = tuple(counts.get(a, 0) for a in axes)
        name = function.func.__name__
        suffix = "".join((a if len(a) == 1 else f"{{{a}}}") * n for a, n in zip(axes, order, strict=True))
        leaf = sympy.Symbol(f"{name}_{suffix}" if suffix else name, real=True)
        leaves[Derivative(name, order)] = leaf
        replace[atom] = leaf
    return Relation(expression.xreplace(replace), leaves, axes)
