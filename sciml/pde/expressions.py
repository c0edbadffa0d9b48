"""What fields need of SymPy: functions by name, derivatives almost everywhere, code for torch and numpy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sympy
import torch
from scipy.special import erf
from sympy.printing.lambdarepr import LambdaPrinter

from sciml.errors import UserError

EXACT = 2**53
"""Whole numbers up to this are doubles."""


class Sign(sympy.Function):
    """The sign of a real number; its derivative is zero."""

    def fdiff(self, argindex: int = 1) -> Any:
        return sympy.S.Zero


class Abs(sympy.Function):
    """The absolute value of a real number; its derivative is the sign."""

    def fdiff(self, argindex: int = 1) -> Any:
        return Sign(self.args[0])


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sin": sympy.sin, "cos": sympy.cos, "tan": sympy.tan, "arcsin": sympy.asin, "arccos": sympy.acos,
    "arctan": sympy.atan, "asin": sympy.asin, "acos": sympy.acos, "atan": sympy.atan,
    "arctan2": sympy.atan2, "atan2": sympy.atan2,
    "sinh": sympy.sinh, "cosh": sympy.cosh, "tanh": sympy.tanh, "arcsinh": sympy.asinh, "asinh": sympy.asinh,
    "exp": sympy.exp, "log": sympy.log, "sqrt": sympy.sqrt, "erf": sympy.erf, "special_erf": sympy.erf,
    "abs": Abs, "absolute": Abs, "sign": Sign, "sigmoid": lambda a: 1 / (1 + sympy.exp(-a)),
    "square": lambda a: a**2, "reciprocal": lambda a: 1 / a, "rsqrt": lambda a: 1 / sympy.sqrt(a),
    "neg": lambda a: -a, "negative": lambda a: -a, "positive": lambda a: a,
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "subtract": lambda a, b: a - b,
    "mul": lambda a, b: a * b, "multiply": lambda a, b: a * b, "div": lambda a, b: a / b,
    "true_divide": lambda a, b: a / b, "divide": lambda a, b: a / b, "pow": lambda a, b: a**b,
    "power": lambda a, b: a**b, "float_power": lambda a, b: a**b,
    "rsub": lambda a, b: b - a, "__rpow__": lambda a, b: b**a, "__rsub__": lambda a, b: b - a,
    "__rdiv__": lambda a, b: b / a, "rdiv": lambda a, b: b / a,
}  # fmt: skip
"""SymPy's function for each name that torch or numpy calls it by."""


def differentiate(expression: sympy.Expr, by: sympy.Symbol) -> sympy.Expr:
    """Return the derivative almost everywhere: no delta where an absolute value or a sign jumps."""
    return sympy.diff(expression.replace(sympy.Abs, Abs).replace(sympy.sign, Sign), by)


def require_real(expression: sympy.Expr) -> None:
    """Raise UserError where an expression divides by zero or is complex or infinite whatever the field."""
    if expression.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo, sympy.I):
        raise UserError(
            f"an equation is no real number for any field: {expression}; look for division by zero or a root"
        )


def compiled(arguments: Sequence[sympy.Symbol], expression: sympy.Expr, torchy: bool) -> Callable[..., Any]:
    """Return an expression as a function of arrays, of torch or of numpy."""
    printer = _Printer({"fully_qualified_modules": False, "inline": True, "allow_unknown_functions": True})
    modules = [_TORCH if torchy else _NUMPY]
    # Names of one's own, since those that lambdify makes up count on, and the order of a sum goes by names.
    own = [sympy.Symbol(f"argument_{k:04d}", real=True) for k in range(len(arguments))]
    renamed = expression.xreplace(dict(zip(arguments, own, strict=True)))
    return sympy.lambdify(own, renamed, modules=modules, printer=printer, cse=True)


class _Printer(LambdaPrinter):
    """Prints constants as doubles with all digits: torch has no sqrt(2) and no integer beyond 64 bits."""

    def _print(self, expr: Any, **kwargs: Any) -> str:
        if isinstance(expr, sympy.Expr) and expr.is_number and not (expr.is_Integer and abs(int(expr)) <= EXACT):
            return repr(float(expr))
        return super()._print(expr, **kwargs)


_NAMES = (
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "atan2",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "exp",
    "log",
    "sqrt",
    "abs",
    "sign",
)
_TORCH = {name: getattr(torch, name) for name in _NAMES} | {
    "erf": torch.erf,
    "Abs": torch.abs,
    "Sign": torch.sign,
}
_NUMPY = {name: getattr(np, name) for name in _NAMES} | {"erf": erf, "Abs": np.abs, "Sign": np.sign}
