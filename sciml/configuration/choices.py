"""What ``configs/`` holds: presets of the trainer, variants of problems and solvers, defaults by view."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sciml.errors import UserError, short
from sciml.registry import Entry, Group, entries, find, offers

_PACKAGE = Path(__file__).resolve().parent.parent
# A wheel carries the folder inside the package, a checkout has it beside the package.
CONFIGS = next((p for p in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if p.is_dir()), _PACKAGE / "configs")


@dataclass(frozen=True)
class Choice:
    """A problem or solver as chosen.

    Args:
        entry: what it is.
        base: the option of the config group that holds its defaults.
        option: the option chosen: the base, or a variant of it.
    """

    entry: Entry
    base: str
    option: str

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters that a variant sets; none otherwise."""
        if self.option == self.base:
            return {}
        written = read_yaml(CONFIGS / self.entry.group / f"{self.option}.yaml")
        return {name: value for name, value in written.items() if name != "defaults"}


def choose(group: Group, name: str) -> Choice:
    """Return the problem or solver of a name, of a named variant, or of ``path/to/file.py:Class``.

    Raises:
        UserError: there is none.
    """
    if name in variants(group):
        entry = find(group, base_of(group, name))
        return Choice(entry, entry.name, name)
    entry = find(group, name, variants(group))
    base = entry.name if entry.module else f"{entry.source.node.name.lower()}_of_the_user"
    return Choice(entry, base, base)


def presets() -> tuple[str, ...]:
    """The presets of the trainer."""
    return tuple(sorted(p.stem for p in (CONFIGS / "trainer").glob("*.yaml")))


def variants(group: Group) -> tuple[str, ...]:
    """The named variants of a group."""
    return tuple(sorted(p.stem for p in (CONFIGS / group).glob("*.yaml")))


def base_of(group: Group, variant: str) -> str:
    """Return the name of the problem or solver of which something is a variant."""
    return str(read_yaml(CONFIGS / group / f"{variant}.yaml")["defaults"][0])


def default_solver(problem: Entry) -> str:
    """Return the solver taken for a problem when none is named."""
    solver = _view_defaults(problem).get("solver")
    if not solver:
        fit = ", ".join(name for name, entry in entries("solver").items() if offers(problem, entry))
        raise UserError(f"{problem.name} has no default solver; name one with solver= (known: {fit})")
    return solver


def baselines(problem: Entry) -> tuple[str, ...]:
    """Return the classical solvers with the first of which that fits solvers of a problem are compared."""
    return tuple(_view_defaults(problem).get("baseline", ()))


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds plain values: no aliases, no interpolation, no ``_target_``.

    Raises:
        UserError: anything else.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8") if path.stat().st_size < 1_000_000 else ""
        loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # in C ten times as fast
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, loader)):
            raise UserError(f"{path} holds YAML aliases; expected plain values")
        value = yaml.load(text, loader)
    except OSError as error:
        raise UserError(f"cannot read {short(str(path))}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise UserError(f"{path} is not YAML; expected a mapping of plain values") from None
    if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
        raise UserError(f"{path} is not a mapping; expected key: value lines")
    if "_target_" in text or "${" in text:
        raise UserError(f"{path} holds _target_ or ${{...}}; a configuration names no code and refers to nothing")
    return value


def _view_defaults(problem: Entry) -> Mapping[str, Any]:
    return read_yaml(CONFIGS / "views.yaml").get(problem.views[0], {}) if problem.views else {}
