"""Constructors as schemas: typed, ranged arguments that are checked wherever an object is made."""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, cast, get_type_hints

from annotated_types import Ge, Gt, Interval
from pydantic import ConfigDict, ValidationError, create_model

from sciml.errors import UserError, did_you_mean

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(gt=0, lt=1)]
Count = Annotated[int, Ge(1)]
Several = Annotated[int, Ge(10)]


def schema(init: Callable[..., None]) -> dict[str, tuple[Any, Any]]:
    """Return ``{parameter: (type, default)}`` of a constructor; a missing default is ``...``."""
    hints = get_type_hints(init, include_extras=True)
    arguments = list(inspect.signature(init).parameters.values())[1:]
    return {
        a.name: (hints.get(a.name, Any), ... if a.default is inspect.Parameter.empty else a.default)
        for a in arguments
        if a.kind in (a.POSITIONAL_OR_KEYWORD, a.KEYWORD_ONLY)
    }


def check(owner: str, init: Callable[..., None], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``given`` completed with defaults and checked against the types and ranges of ``init``.

    Raises:
        UserError: an unknown parameter, a wrong type or a value out of range.
    """
    fields = schema(init)
    for name in given:
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise UserError(f"{owner} has no parameter {name!r}{did_you_mean(name, fields)} (known: {known})")
    config = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    model = create_model(owner, __config__=config, **cast(dict[str, Any], fields))
    plain = {k: _tuples(v) for k, v in given.items()}
    try:
        checked = model(**plain)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise UserError(f"{owner} needs a value for {name}") from None
        message = first["msg"].removeprefix("Input should be ")
        raise UserError(f"{owner}: {name} should be {message}, got {first['input']!r}") from None
    return {name: getattr(checked, name) for name in fields}


def _tuples(value: Any) -> Any:
    """Return lists, which YAML has in the place of tuples, as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


class Configured:
    """Gives every subclass a checked constructor, whose resolved arguments are kept in ``settings``."""

    settings: Mapping[str, Any] = MappingProxyType({})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.settings.items())})"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _checked(cls.__init__)


def _checked(init: Callable[..., None]) -> Callable[..., None]:
    signature = inspect.signature(init)

    @functools.wraps(init)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        outermost = type(self).__init__ is wrapper
        if not outermost:
            init(self, *args, **kwargs)
            return
        try:
            given = dict(signature.bind_partial(self, *args, **kwargs).arguments)
        except TypeError:
            given = {**dict(zip(list(schema(init)), args, strict=False)), **kwargs}
        else:
            given.pop(next(iter(signature.parameters)))
        self.__dict__["settings"] = check(type(self).__name__, init, given)
        init(self, **self.__dict__["settings"])

    return wrapper
