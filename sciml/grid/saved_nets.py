"""Nets that pandapower saved, read without running what a file may name."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciml.errors import UserError, missing

if TYPE_CHECKING:
    from pandapower import pandapowerNet

_PLAIN = {
    "pandapower.auxiliary.pandapowerNet",
    *(f"pandas{module}" for module in (".DataFrame", ".core.frame.DataFrame", ".Series", ".core.series.Series")),
    *(f"numpy.{name}" for name in ("array", "bool")),
}
"""Classes in a saved net that hold data only."""


def read_net(path: Path) -> "pandapowerNet":
    """Return a net that ``pandapower.to_json`` wrote.

    Raises:
        UserError: pandapower is not installed; the file holds no net, or objects beyond tables.
    """
    try:
        from pandapower import from_json_string, pandapowerNet
    except ImportError:
        raise missing(path.name, "pandapower", "grid") from None
    try:
        text = path.read_text(encoding="utf-8")
        foreign = sorted(set(_classes(json.loads(text))) - _PLAIN)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON text: {error}; write it by pandapower.to_json") from None
    if foreign:  # pandapower would import the module that a file names, and call what it finds there
        raise UserError(f"{path} holds an object of class {foreign[0]}; expected tables only, remove it from the net")
    try:
        net = from_json_string(text)
    except Exception as error:  # whatever a broken file makes of pandapower's reader
        raise UserError(f"{path} holds no net of pandapower: {type(error).__name__}: {error}") from None
    if not isinstance(net, pandapowerNet):
        raise UserError(f"{path} holds no net of pandapower; write it by pandapower.to_json")
    return net


def _classes(value: Any) -> Iterator[str]:
    """Yield the classes that a parsed JSON text asks for, also in texts within it."""
    match value:
        case dict():
            if "_module" in value or "_class" in value:
                yield f"{value.get('_module')}.{value.get('_class')}"
            for inner in value.values():
                yield from _classes(inner)
        case list():
            for inner in value:
                if isinstance(inner, (dict, list, str)):
                    yield from _classes(inner)
        case str() if value.lstrip()[:1] in ("{", "["):
            try:
                inner = json.loads(value)
            except ValueError:
                return
            yield from _classes(inner)
