"""What a benchmark runs: its cells, the rows they belong to, and the pairs that do not fit."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sciml.bench.targets import Target
from sciml.configuration.compose import config_hash, config_of, typed
from sciml.errors import UserError
from sciml.files import write_text
from sciml.solver import Kind, Solver, misfit
from sciml.training.settings import Training

PLAN = "bench.json"


@dataclass(frozen=True)
class Cell:
    """One run.

    Args:
        folder: its run folder, relative to the benchmark's.
        seed: its seed.
        words: what follows ``sciml train`` to run it.
    """

    folder: str
    seed: int
    words: tuple[str, ...]


@dataclass(frozen=True)
class Rung:
    """The runs of a solver at one value of its ladder, one per seed."""

    parameter: str
    value: float | int | str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Entry:
    """One row of the table: a pair that fits, its seeds, and its ladder from coarse to fine.

    ``question`` tells problems of one name but other parameters apart; ``target`` is what a suite expects.
    """

    problem: str
    question: str
    solver: str
    kind: Kind
    config: str
    cells: tuple[Cell, ...]
    rungs: tuple[Rung, ...] = ()
    target: Target | None = None

    def runs(self) -> tuple[Cell, ...]:
        """Return the cells of all seeds and then of the ladder."""
        return (*self.cells, *(cell for rung in self.rungs for cell in rung.cells))


@dataclass(frozen=True)
class Misfit:
    """A pair that does not fit, and why."""

    problem: str
    solver: str
    kind: Kind
    reason: str
    target: Target | None = None


@dataclass(frozen=True)
class Plan:
    """A benchmark before it runs.

    Args:
        entries: the rows.
        misfits: the pairs left out.
        conditions: how cells run: jobs, cores, time and memory limits.
    """

    entries: tuple[Entry, ...] = ()
    misfits: tuple[Misfit, ...] = ()
    conditions: Mapping[str, float | int | None] = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        """Return every run once: all seeds first, then the ladders."""
        cells = [c for e in self.entries for c in e.cells] + [c for e in self.entries for c in e.runs()]
        return list({c.folder: c for c in cells}.values())

    def write(self, folder: Path) -> None:
        """Write the plan into the benchmark's folder."""
        write_text(folder / PLAN, TypeAdapter(Plan).dump_json(self, indent=2).decode() + "\n")


def read_plan(folder: Path) -> Plan | None:
    """Return the plan of a benchmark's folder, or None where there is none.

    Raises:
        UserError: the file is not a plan.
    """
    path = folder / PLAN
    if not path.exists():
        return None
    try:
        return TypeAdapter(Plan).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path} is not a benchmark's plan: {where}: {first['msg']}; run sciml bench") from None


@dataclass(frozen=True)
class Chosen:
    """A problem or solver as asked for.

    Args:
        word: by which ``sciml train`` finds it.
        name: by which it is registered.
        made: the problem or solver itself.
        settings: the parameters set besides its defaults and the word's own.
    """

    word: str
    name: str
    made: Any
    settings: Mapping[str, Any] = field(default_factory=dict)


def fingerprint(config: Mapping[str, Any]) -> str:
    """Return the hash of a run's configuration, the seed left out."""
    return config_hash({section: config[section] for section in ("problem", "solver", "trainer")})


def as_text(problem: Mapping[str, Any]) -> str:
    """Return a problem's parameters as text."""
    return " ".join(f"{key}={value}" for key, value in problem.items() if key != "name")


def pair(
    problem: Chosen,
    solver: Chosen,
    seeds: Sequence[int],
    trainer: Mapping[str, Any],
    target: Target | None = None,
    ladder_seeds: int | None = None,
) -> Entry | Misfit:
    """Plan the runs of one pair; a parameter that is set has no ladder.

    Args:
        problem: the problem.
        solver: the solver.
        seeds: the seeds of solvers that depend on one; others run the first alone.
        trainer: settings of the training.
        target: what is expected of it.
        ladder_seeds: the number of seeds, from the first on, of the steps of its ladder; None: all.

    Raises:
        UserError: the training refuses its settings.
    """
    method: Solver[Any] = solver.made
    training = Training(**typed(Training, trainer))
    reason = misfit(problem.made, method)
    if reason:
        return Misfit(problem.name, solver.name, method.kind, reason, target)

    cell = functools.partial(_cell, problem, solver, training, trainer)
    seeds = seeds[:1] if method.deterministic else seeds
    runs = [cell(seed, {}) for seed in seeds]
    config = runs[0][1]
    return Entry(
        problem=problem.name,
        question=as_text(config["problem"]),
        solver=solver.name,
        kind=method.kind,
        config=fingerprint(config),
        cells=tuple(run for run, _ in runs),
        rungs=tuple(
            Rung(parameter, value, tuple(cell(seed, {parameter: value})[0] for seed in seeds[:ladder_seeds]))
            for parameter, values in method.ladder.items()
            if parameter not in solver.settings
            for value in values
        ),
        target=target,
    )


def _cell(
    problem: Chosen, solver: Chosen, training: Training, trainer: Mapping[str, Any], seed: int, step: Mapping[str, Any]
) -> tuple[Cell, dict[str, Any]]:
    """Return a run, at a step of the solver's ladder or its parameters as they are, and its configuration."""
    method: Solver[Any] = solver.made
    chosen = type(method)(**{**method.settings, **step}) if step else method
    config = dataclasses.asdict(config_of(problem.made, chosen, training, seed, (problem.name, solver.name)))
    words = (
        f"problem={problem.word}",
        f"solver={solver.word}",
        *_words("problem", problem.settings),
        *_words("solver", {**solver.settings, **step}),
        *_words("trainer", trainer),
        f"seed={seed}",
        "compare=false",
    )
    return Cell(f"{problem.made.name}/{method.name}/seed-{seed}-{fingerprint(config)}", seed, words), config


def _words(group: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{group}.{key}={json.dumps(value)}" for key, value in settings.items())
