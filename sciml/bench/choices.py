"""What a benchmark is asked for: the command line over a suite over the base configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sciml.configuration.choices import CONFIGS, choose, read_yaml
from sciml.errors import UserError, did_you_mean, short
from sciml.registry import Group
from sciml.source import Source, classes

if TYPE_CHECKING:
    from sciml.bench.benchmark import Benchmark

_LISTS = ("problem", "solver", "seed")
_GROUPS = ("problem", "solver", "trainer")
_TEXTS = ("problem", "solver", "dir", "suite")
_SCIML = Path(__file__).parent.parent


def read_choices(words: Sequence[str]) -> "Benchmark":
    """Read ``key=value`` words over the suite that they or ``configs/bench.yaml`` name.

    ``problem.key=`` and ``solver.key=`` set a parameter of the one problem or solver named; ``trainer.key=``
    is for all. Names and keys are looked up in files before anything is imported, so that a typo costs no wait.

    Raises:
        UserError: an unknown name, key or suite, a value of the wrong type, or a folder that is a file.
    """
    given = [_pair(word) for word in words]
    base = read_yaml(CONFIGS / "bench.yaml")
    suite = next((text for key, text in reversed(given) if key == "suite"), base.pop("suite"))
    settings: dict[str, Any] = {**base, **_load_suite(suite)}
    settings |= {key: _listed(text) for key, text in given if key in ("problem", "solver")}
    for group in ("problem", "solver"):
        for name in settings.get(group) or ():
            if name != "all":
                choose(group, name)
        if group in dict(given):  # the suite's parameters for what is not asked for do no harm
            of_all = settings.get(f"{group}_parameters") or {}
            asked = settings[group]
            settings[f"{group}_parameters"] = {n: p for n, p in of_all.items() if n in asked or "all" in asked}
    for key, _ in given:
        _require_parameter(key, settings)
    settings |= {key: _value(key, text) for key, text in given if "." not in key and key not in _TEXTS}
    settings |= {key: str(folder_at(text)) for key, text in given if key == "dir"}
    for key, text in given:
        group, dot, name = key.partition(".")
        if dot:
            _set(settings, group, name, _value(key, text))

    from sciml.bench.benchmark import Benchmark

    return Benchmark(**settings)


def folder_at(text: str) -> Path:
    """Return the path of a folder that exists or can be made.

    Raises:
        UserError: it, or what should hold it, is a file.
    """
    folder = Path(text)
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise UserError(f"expected a folder, got {short(text)}, but {path} is a file; name another")
    return folder


def _pair(word: str) -> tuple[str, str]:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise UserError(f"expected key=value, got {short(word)} (for example problem=heat seed=0,1,2)")
    group, dot, _ = key.partition(".")
    if not (dot and group in _GROUPS):
        _require_known(key)
    return key, text


def _value(key: str, text: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(f"{key}={text}")
        value = override.value()
    except (HydraException, ValueError, RecursionError):
        raise UserError(f"cannot read {short(text)} as the value of {key}") from None
    if not override.is_sweep_override():
        return _listed(value) if key in _LISTS else value
    if key != "seed":
        raise UserError(f"{key} takes one value, got {short(text)}")
    return tuple(_number(part) for part in text.split(","))


def _number(text: str) -> int | str:
    return int(text) if text.strip().isdecimal() else text


def _listed(value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        return tuple(part for part in value.split(",") if part)
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _require_known(key: str) -> None:
    arguments = classes(Path(__file__).with_name("benchmark.py"))["Benchmark"].parameters()
    known = [*(k for k in arguments if "parameters" not in k and k not in ("trainer", "targets")), "suite"]
    if key not in known:
        nested = ", ".join(f"{g}.<parameter>" for g in _GROUPS)
        near = did_you_mean(key, known) or did_you_mean(key.partition(".")[0], _GROUPS)
        raise UserError(f"sciml bench has no key {short(key)}{near} (known: {', '.join(known)}, {nested})")


def _require_parameter(key: str, settings: Mapping[str, Any]) -> None:
    """Refuse ``group.name`` where the one problem or solver named, or the training, has no such parameter."""
    group, dot, name = key.partition(".")
    if not dot:
        return
    owner, source = _owner(group, settings)
    known = source.parameters()
    if name not in known:
        near, listed = did_you_mean(name, known), ", ".join(known) or "none"
        raise UserError(f"{owner} has no parameter {short(name)}{near} (known: {listed})")


def _owner(group: str, settings: Mapping[str, Any]) -> tuple[str, Source]:
    if group == "trainer":
        return group, classes(_SCIML / "training" / "settings.py")["Training"]
    named = settings.get(group) or ()
    if len(named) != 1 or named[0] == "all":
        raise UserError(
            f"parameters of a {group} need {group}= with one name, got {','.join(named)}; or set them in a suite"
        )
    entry = choose(cast(Group, group), named[0]).entry
    return entry.name, entry.source


def _set(settings: dict[str, Any], group: str, name: str, value: Any) -> None:
    if group == "trainer":
        settings["trainer"] = {**(settings.get("trainer") or {}), name: value}
        return
    word = settings[group][0]
    if group == "solver":
        given = settings.get("pair_parameters") or {}
        settings["pair_parameters"] = {p: _without(each, word, name) for p, each in given.items()}
    table = dict(settings.get(f"{group}_parameters") or {})
    settings[f"{group}_parameters"] = {**table, word: {**table.get(word, {}), name: value}}


def _without(each: Mapping[str, Mapping[str, Any]], solver: str, name: str) -> dict[str, dict[str, Any]]:
    """Return parameters by solver, less one of one solver."""
    return {s: {k: v for k, v in given.items() if (s, k) != (solver, name)} for s, given in each.items()}


def _load_suite(name: str) -> dict[str, Any]:
    known = sorted(path.stem for path in (CONFIGS / "suite").glob("*.yaml"))
    if name not in known:
        raise UserError(f"no suite {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})")
    return read_yaml(CONFIGS / "suite" / f"{name}.yaml")
