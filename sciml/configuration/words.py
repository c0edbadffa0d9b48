"""The words of ``sciml train``: names and keys are checked before any work, from files alone where they are ours."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sciml.configuration.choices import Choice, choose, default_solver, presets
from sciml.errors import UserError, did_you_mean, short
from sciml.registry import Entry, entries, find, offers
from sciml.source import classes

_PLAIN = ("problem", "solver", "trainer", "seed", "compare", "run.dir", "resume")
_SECTIONS = ("problem", "solver", "trainer")
_BOOLEANS = {"true": True, "false": False}
_LONGEST = 10_000


@dataclass(frozen=True)
class Request:
    """A run as asked for, every name and key known to exist.

    Args:
        problem: what to solve.
        solver: how.
        solver_named: whether the user named the solver.
        overrides: preset of the trainer, seed and parameters as Hydra takes them.
        compare: whether the classical baseline and the trivial predictor run as well.
        folder: the run folder asked for.
    """

    problem: Choice
    solver: Choice
    solver_named: bool
    overrides: tuple[str, ...]
    compare: bool = True
    folder: Path | None = None


@dataclass(frozen=True)
class Resumption:
    """A run to be continued in its folder.

    Args:
        folder: the run folder.
        named: problem and solver where the user repeats the files that hold their code.
        compare: as in a request.
    """

    folder: Path
    named: tuple[str, ...] = ()
    compare: bool = True


def read_words(words: Sequence[str]) -> Request | Resumption:
    """Check the names and keys of ``key=value`` words; only the code of files that the user names is imported.

    Raises:
        UserError: a word that is not ``key=value``, an unknown name or key, or a view that is not offered.
    """
    given = _pairs(words)
    compare = given.pop("compare", "true")
    if compare not in _BOOLEANS:
        raise UserError(f"compare should be true or false, got {short(compare)}")
    if "resume" in given:
        folder = Path(given.pop("resume"))
        named = [find(g, given.pop(g)).name for g in ("problem", "solver") if ".py:" in given.get(g, "")]
        if given:
            raise UserError(f"resume takes its settings from the run folder; leave out {', '.join(given)}")
        return Resumption(folder, tuple(named), _BOOLEANS[compare])
    for key in given:
        if key not in _PLAIN and not _is_parameter(key):
            known = ", ".join([*_PLAIN, *(f"{s}.<parameter>" for s in _SECTIONS)])
            raise UserError(f"no key {short(key)}{did_you_mean(key, _PLAIN)} (known: {known})")
    if "problem" not in given:
        raise UserError(f"expected problem=<name> (known: {', '.join(entries('problem'))})")
    problem = choose("problem", given["problem"])
    solver = choose("solver", given.get("solver") or default_solver(problem.entry))
    preset = given.get("trainer", "auto")
    if preset not in presets():
        raise UserError(f"no trainer {short(preset)}{did_you_mean(preset, presets())} (known: {', '.join(presets())})")
    _check_parameters(given, problem.entry, solver.entry)
    if not offers(problem.entry, solver.entry):
        raise UserError(_view_misfit(problem.entry, solver.entry))
    settings = (f"{k}={v}" for k, v in given.items() if k == "seed" or _is_parameter(k))
    folder = Path(given["run.dir"]) if given.get("run.dir") else None
    return Request(problem, solver, "solver" in given, (f"trainer={preset}", *settings), _BOOLEANS[compare], folder)


def _is_parameter(key: str) -> bool:
    section, dot, _ = key.partition(".")
    return bool(dot) and section in _SECTIONS


def _pairs(words: Sequence[str]) -> dict[str, str]:
    """Split ``key=value`` words."""
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if word.startswith(("+", "~")):
            raise UserError(f"{short(word)}: keys are neither added nor removed; write key=value with a known key")
        if word.startswith("-"):
            raise UserError(f"no option {short(word)} (known: --json, --debug, --help)")
        if not equals:
            raise UserError(f"expected key=value, got {short(word)}; for instance problem=heat")
        if "_target_" in word or "${" in word:
            raise UserError(f"{short(word)}: settings name no code and refer to nothing; write the value itself")
        if not re.fullmatch(r"[a-z0-9_]+(\.[a-zA-Z0-9_]+)*", key):
            raise UserError(f"{short(key)} is not a key{did_you_mean(key, _PLAIN)} (known: {', '.join(_PLAIN)})")
        if len(word) > _LONGEST or not value.isprintable():
            raise UserError(f"the value of {key} is longer than {_LONGEST} characters or holds control characters")
        if key in given:
            raise UserError(f"{key} is given twice; give it once")
        given[key] = value
    return given


def _check_parameters(given: Mapping[str, str], problem: Entry, solver: Entry) -> None:
    training = classes(Path(__file__).parent.parent / "training" / "settings.py")["Training"]
    owners = {
        "problem": (problem.name, problem.parameters),
        "solver": (solver.name, solver.parameters),
        "trainer": ("trainer", tuple(training.parameters())),
    }
    for key in filter(_is_parameter, given):
        section, _, name = key.partition(".")
        owner, known = owners[section]
        if name not in known:
            near, listed = did_you_mean(name, known), ", ".join(known) or "none"
            raise UserError(f"{owner} has no parameter {short(name)}{near} (known: {listed})")


def _view_misfit(problem: Entry, solver: Entry) -> str:
    fit = ", ".join(n for n, e in entries("solver").items() if offers(problem, e) and e.kind != "trivial") or "none"
    offered = ", ".join(problem.views) or "none"
    refusal = f"{solver.name} needs the view {solver.needs}; {problem.name} offers {offered}"
    return f"{refusal} (solvers that fit: {fit})"
