"""From checked words to one resolved configuration: Hydra composes, constructors check every value."""

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from sciml.configuration.choices import CONFIGS, read_yaml
from sciml.configuration.words import Request
from sciml.errors import UserError, short
from sciml.parameters import Configured, schema
from sciml.problem import Problem
from sciml.registry import Group, find
from sciml.solver import Solver
from sciml.training.settings import Training

Made = tuple[Problem, Solver[Any], Training]

_SECTIONS = ("problem", "solver", "trainer")


@dataclass(frozen=True)
class Config:
    """One resolved run.

    Args:
        problem: its name and parameters.
        solver: its name and parameters.
        trainer: the settings of the training.
        seed: the seed, from 0 to 2³² - 1.
    """

    problem: Mapping[str, Any]
    solver: Mapping[str, Any]
    trainer: Mapping[str, Any]
    seed: int

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise UserError(f"seed should be an integer from 0 to {2**32 - 1}, got {self.seed!r}")

    @property
    def hash(self) -> str:
        """Ten hexadecimal digits that tell one configuration from another."""
        return config_hash(dataclasses.asdict(self))

    def make(self) -> "Made":
        """Return the problem, the solver and the training.

        Raises:
            UserError: an unknown name, or a parameter that its constructor refuses.
        """
        problem = _make("problem", self.problem)
        solver = _make("solver", self.solver)
        return problem, solver, Training(**typed(Training, self.trainer))


def config_of(problem: Problem, solver: Solver[Any], training: Training, seed: int, names: tuple[str, str]) -> Config:
    """Return the configuration of objects as they were made, every default written out.

    Args:
        names: the names under which problem and solver are registered.
    """
    return Config(
        {"name": names[0], **plain(problem.settings)},
        {"name": names[1], **plain(solver.settings)},
        plain(training.settings),
        seed,
    )


def config_hash(config: Mapping[str, Any]) -> str:
    """Return ten hexadecimal digits of the SHA-256 of plain values, whatever the order of keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:10]


def compose(request: Request) -> tuple[Config, Made]:
    """Resolve presets, variants, defaults and overrides, and make what they describe.

    Raises:
        UserError: a value that cannot be read, or that its constructor refuses.
    """
    raw = _hydra(request)
    problem, solver, training = Config(**raw).make()
    names = request.problem.entry.name, request.solver.entry.name
    return config_of(problem, solver, training, raw["seed"], names), (problem, solver, training)


def read_config(path: Path) -> Config:
    """Read the configuration of a run folder.

    Raises:
        UserError: a file that is missing or is not one.
    """
    raw = read_yaml(path)
    keys = (*_SECTIONS, "seed")
    if set(raw) != set(keys) or not all(isinstance(raw[k], dict) for k in _SECTIONS):
        raise UserError(f"{path} is not the configuration of a run; expected the keys {', '.join(keys)}")
    for section in ("problem", "solver"):
        if not isinstance(raw[section].get("name"), str):
            raise UserError(f"{path} names no {section}; expected {section}: {{name: ...}}")
    return Config(**raw)


def require_trusted(config: Config, named: Collection[str], mend: str) -> None:
    """Refuse a configuration read from disk that would run code of a file which the user has not named.

    Args:
        named: the files and classes that the user has named.
        mend: how to name them.

    Raises:
        UserError: such a file.
    """
    for section in (config.problem, config.solver):
        if ".py:" in section["name"] and section["name"] not in named:
            raise UserError(f"the run uses the code in {section['name']}; to run that code, say {mend}")


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that YAML can hold, tuples as lists; others keep their constructor's default."""
    return {k: _plain(v) for k, v in settings.items() if _is_plain(v)}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return value is None or isinstance(value, (bool, int, float, str))


def _make(group: Group, section: Mapping[str, Any]) -> Any:
    cls = find(group, section["name"]).load()
    return cls(**typed(cls, {k: v for k, v in section.items() if k != "name"}))


def typed(cls: type[Configured], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with numbers as text where their type is a choice of words (``precision=64``)."""
    words = {name: _words(hint) for name, (hint, _) in schema(cls.__init__).items()}
    return {k: str(v) if str(v) in words.get(k, ()) else v for k, v in values.items()}


def _words(hint: Any) -> tuple[str, ...]:
    if get_origin(hint) is Literal:
        return tuple(a for a in get_args(hint) if isinstance(a, str))
    return tuple(word for part in get_args(hint) for word in _words(part))


def _hydra(request: Request) -> dict[str, Any]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for override in request.overrides:
        _check_value(override)
    store = ConfigStore.instance()
    store.store(name="base", group="trainer", node=_defaults(Training))
    for group, choice in (("problem", request.problem), ("solver", request.solver)):
        node = {"name": choice.entry.name, **_defaults(choice.entry.load())}
        store.store(name=choice.base, group=group, node=node)
    choices = (f"problem={request.problem.option}", f"solver={request.solver.option}")
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = hydra_compose("train", [*choices, *request.overrides])
        raw: Any = OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(" ".join(str(error).split())) from error
    return {
        k: {n: v for n, v in part.items() if v != "???"} if isinstance(part, dict) else part for k, part in raw.items()
    }


def _defaults(cls: type[Configured]) -> dict[str, Any]:
    fields = schema(cls.__init__)
    required = {name: "???" for name, (_, default) in fields.items() if default is ...}
    return required | plain({name: default for name, (_, default) in fields.items() if default is not ...})


def _check_value(override: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, _, text = override.partition("=")
    try:
        parsed = OverridesParser.create().parse_override(override)
        several = parsed.is_sweep_override()
    except (HydraException, ValueError, RecursionError):
        raise UserError(f"cannot read {short(text)} as the value of {key}; quote text: {key}='\"...\"'") from None
    if text == "???":
        raise UserError(f"{key} needs a value, got '???'")
    if several:
        raise UserError(
            f"{key} takes one value, got {short(text)}; a list is [1,2], and sciml bench makes several runs"
        )
