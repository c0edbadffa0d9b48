"""Equations become relations: they run once on symbolic fields."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy
from sympy.core.function import AppliedUndef

from sciml.errors import UserError
from sciml.pde.expressions import require_real
from sciml.pde.fields import Derivative, Field, Relation, symbol


def trace(
    equations: Callable[..., Any],
    fields: Sequence[str],
    axes: Sequence[str],
    normal: bool = False,
) -> tuple[Relation, ...]:
    """Run ``equations`` once on symbolic fields and return its residuals as relations.

    Args:
        equations: takes coordinates by name, fields by name or in order (``*u``: all); arguments with a
            default keep it. It returns one residual or a sequence.
        fields: names of the fields.
        axes: names of the coordinates.
        normal: whether the outward normal is at hand.

    Raises:
        UserError: names that clash, an argument that is neither field nor axis, or a result that is no field.
    """
    axes = tuple(axes)
    _require_names(fields, axes)
    coordinates = {a: Field(symbol(a), axes, normal) for a in axes}
    unknown = {f: Field(sympy.Function(f, real=True)(*map(symbol, axes)), axes, normal) for f in fields}
    bound = _bind(equations, coordinates | unknown, tuple(fields))
    result = equations(*bound.args, **bound.kwargs)
    results = result if isinstance(result, (tuple, list)) else (result,)
    return tuple(_relation(r, axes) for r in results)


def _require_names(fields: Sequence[str], axes: Sequence[str]) -> None:
    names = [*fields, *axes]
    for name in names:
        if not name.isidentifier() or names.count(name) > 1:
            raise UserError(f"expected distinct names (letters, digits, _) of fields and axes, got {', '.join(names)}")
    for axis in axes:
        spelled = len(axis) > 1 and all(letter in axes for letter in axis)
        if axis in ("normal", "observed") or axis in dir(Field) or spelled:
            raise UserError(f"an axis cannot be called {axis!r}, which means something else on a field; rename it")


def _bind(equations: Callable[..., Any], at_hand: Mapping[str, Field], fields: Sequence[str]) -> inspect.BoundArguments:
    """Choose what ``equations`` takes: coordinates by name, fields by name or else in order."""
    signature = inspect.signature(equations)
    bound = signature.bind_partial()
    taken: list[str] = []
    for name, parameter in signature.parameters.items():
        if parameter.kind == parameter.VAR_POSITIONAL:
            bound.arguments[name] = tuple(at_hand[f] for f in fields)
        elif name in at_hand and name not in fields:
            bound.arguments[name] = at_hand[name]
        elif parameter.kind != parameter.VAR_KEYWORD and (name in fields or parameter.default is parameter.empty):
            field = name if name in fields else next(iter(fields[len(taken) :]), None)
            if field is None or field in taken:
                why = f"takes {field} twice" if field else f"{name!r} is neither field nor axis"
                raise UserError(f"an equation's arguments: {why}; expected among {', '.join(at_hand)}")
            taken.append(field)
            bound.arguments[name] = at_hand[field]
    return bound


def _relation(result: Any, axes: tuple[str, ...]) -> Relation:
    if not isinstance(result, Field):
        raise UserError(f"an equation returned {type(result).__name__}; expected fields, such as u.t - u.xx")
    leaves: dict[Derivative, sympy.Symbol] = {}
    replace: dict[Any, Any] = {}
    unknown: set[Any] = result.expression.atoms(sympy.Derivative) | result.expression.atoms(AppliedUndef)
    for atom in unknown:
        function, counts = (atom.expr, dict(atom.variable_count)) if atom.is_Derivative else (atom, {})
        derivative = Derivative(function.func.__name__, tuple(int(counts.get(symbol(a), 0)) for a in axes))
        along = derivative.along(axes)
        joint = "" if all(len(a) == 1 for a in along) else "_"
        leaf = symbol("_".join(filter(None, (derivative.field, joint.join(along)))))
        if leaf in result.expression.free_symbols or leaf in leaves.values():
            raise UserError(f"{leaf.name} means two things in {result.expression} = 0; rename a field or an axis")
        leaves[derivative] = replace[atom] = leaf
    expression: Any = result.expression.xreplace(replace)
    require_real(expression)
    return Relation(expression, leaves, axes)
