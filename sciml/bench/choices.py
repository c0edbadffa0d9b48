"""What a benchmark is asked for: the command line over a suite over the base configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, MinLen

from sciml.configuration.compose import CONFIGS, read_yaml
from sciml.errors import UserError, did_you_mean
from sciml.parameters import Configured, Count, Positive, schema

Names = Annotated[tuple[str, ...], MinLen(1)]
Seeds = Annotated[tuple[Annotated[int, Ge(0)], ...], MinLen(1)]
Settings = Mapping[str, Any]
_LISTS = ("problem", "solver", "seed")
_GROUPS = ("problem", "solver", "trainer")


class Benchmark(Configured):
    """The arguments of ``sciml bench``.

    Args:
        problem: names of problems; ``all`` takes every registered one.
        solver: names of solvers; ``all`` takes every registered one.
        seed: seeds of solvers that depend on one.
        jobs: cells run at once; each gets cores / jobs threads.
        timeout: seconds of one cell, after which it has failed.
        memory: GiB of one cell, after which it has failed; None takes its share of what is free.
        retries: how often a killed cell is started again.
        dir: the benchmark's folder.
        problem_parameters: parameters by the problem's name.
        solver_parameters: parameters by the solver's name.
        trainer: settings of every training.
    """

    def __init__(
        self,
        problem: Names,
        solver: Names,
        seed: Seeds,
        jobs: Count = 1,
        timeout: Positive = 3600.0,
        memory: Positive | None = None,
        retries: Annotated[int, Ge(0)] = 1,
        dir: str = "bench",
        problem_parameters: Mapping[str, Settings] | None = None,
        solver_parameters: Mapping[str, Settings] | None = None,
        trainer: Settings | None = None,
    ) -> None:
        self.problem = tuple(dict.fromkeys(problem))
        self.solver = tuple(dict.fromkeys(solver))
        self.seed = tuple(dict.fromkeys(seed))
        self.jobs = jobs
        self.timeout = timeout
        self.memory = memory
        self.retries = retries
        self.folder = Path(dir)
        self.problem_parameters = problem_parameters or {}
        self.solver_parameters = solver_parameters or {}
        self.trainer = trainer or {}


def read_choices(words: Sequence[str]) -> Benchmark:
    """Read ``key=value`` words over the suite that they or ``configs/bench.yaml`` name.

    ``problem.key=`` and ``solver.key=`` set a parameter of the one problem or solver named; ``trainer.key=``
    is for all.

    Raises:
        UserError: an unknown key or suite, or a value of the wrong type.
    """
    given = [_split(word) for word in words]
    base = read_yaml(CONFIGS / "bench.yaml")
    suite = next((str(value) for key, value in reversed(given) if key == "suite"), base.pop("suite"))
    settings: dict[str, Any] = {**base, **_load_suite(suite)}
    nested: list[tuple[str, str, Any]] = []
    for key, value in given:
        group, dot, name = key.partition(".")
        if dot and group in _GROUPS:
            nested.append((group, name, value))
        elif key != "suite":
            _require_known(key)
            settings[key] = _listed(value) if key in _LISTS else value
    for group, name, value in nested:
        _set(settings, group, name, value)
    return Benchmark(**settings)


def _split(word: str) -> tuple[str, Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, text = word.partition("=")
    if not equals or not key:
        raise UserError(f"expected key=value, got {word!r} (for example problem=heat seed=0,1,2)")
    if key in ("problem", "solver", "dir", "suite"):
        return key, text
    try:
        override = OverridesParser.create().parse_override(word)
        value = override.value()
    except HydraException as error:
        raise UserError(f"cannot read {word!r}: {str(error).splitlines()[0]}") from None
    if override.is_sweep_override():
        if key != "seed":
            raise UserError(f"{key} takes one value, got {text!r}")
        return key, tuple(_number(part) for part in text.split(","))
    return key, value


def _number(text: str) -> int | str:
    return int(text) if text.strip().isdigit() else text


def _listed(value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        return tuple(part for part in value.split(",") if part)
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _require_known(key: str) -> None:
    known = [*(k for k in schema(Benchmark.__init__) if "parameters" not in k and k != "trainer"), "suite"]
    if key not in known:
        nested = ", ".join(f"{g}.<parameter>" for g in _GROUPS)
        near = did_you_mean(key, known) or did_you_mean(key.partition(".")[0], _GROUPS)
        raise UserError(f"sciml bench has no key {key!r}{near} (known: {', '.join(known)}, {nested})")


def _set(settings: dict[str, Any], group: str, name: str, value: Any) -> None:
    if group == "trainer":
        settings["trainer"] = {**(settings.get("trainer") or {}), name: value}
        return
    named = settings.get(group) or ()
    if len(named) != 1 or named[0] == "all":
        raise UserError(f"{group}.{name} needs {group}= with one name, got {','.join(named)}; or set it in a suite")
    table = dict(settings.get(f"{group}_parameters") or {})
    settings[f"{group}_parameters"] = {**table, named[0]: {**table.get(named[0], {}), name: value}}


def _load_suite(name: str) -> dict[str, Any]:
    known = sorted(path.stem for path in (CONFIGS / "suite").glob("*.yaml"))
    if name not in known:
        raise UserError(f"no suite {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})")
    return read_yaml(CONFIGS / "suite" / f"{name}.yaml")
