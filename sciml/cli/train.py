"""``sciml train``: one run, and its place among the classical baseline and the trivial answer."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sciml.configuration.choices import baselines
from sciml.configuration.words import Request, Resumption, read_words
from sciml.errors import Interrupted, SolveError, UserError
from sciml.progress import TerminalProgress
from sciml.registry import find
from sciml.runs.caveats import MARK, caveats

if TYPE_CHECKING:
    from sciml.configuration.compose import Config, Made

USAGE = """usage: sciml train problem=NAME [solver=NAME] [key=value ...] [--json]
       sciml train resume=FOLDER

Solve a problem, score the answer, and compare it with the classical baseline and the trivial answer.

  problem=NAME       one of sciml list, or path/to/file.py:Class
  solver=NAME        likewise; without it the default of the problem's first view
  problem.KEY=VALUE  a parameter of the problem; solver.KEY=VALUE likewise (sciml show lists them)
  trainer=NAME       auto, cpu, gpu or ddp; trainer.KEY=VALUE such as trainer.max_steps=2000
  seed=0             the one source of randomness
  run.dir=FOLDER     where the run lies; without it runs/<problem>/<solver>/<stamp>-<hash>
  resume=FOLDER      continue a run that was stopped; its settings are those of the folder
  compare=false      leave out the baseline and the trivial answer
  --json             print the metrics and the run folder as the last line

example: sciml train problem=heat solver=pinn seed=1 trainer.max_steps=2000 problem.diffusivity=0.2"""


def main(words: Sequence[str]) -> int:
    """Run ``sciml train``."""
    if "--help" in words or "-h" in words:
        print(USAGE)
        return 0
    began = time.perf_counter()
    request = read_words([w for w in words if w != "--json"])
    resume = isinstance(request, Resumption)
    with _terminable():
        config, made, folder = _continued(request) if isinstance(request, Resumption) else _prepared(request)
        if _is_helper(request.folder):
            _help(config, made, folder, resume)
            return 0
        # A new run is refused where one has ended before; the metrics there are not its own.
        foreign = not resume and (folder / "metrics.json").exists()
        try:
            _run(config, made, folder, resume, began)
            _report(config, made, folder, request.compare)
        finally:
            if "--json" in words and not foreign:
                _print_json(folder)
    return 0


def _prepared(request: Request) -> "tuple[Config, Made, Path]":
    """Compose what was asked for, and refuse a pair that does not fit."""
    how = "" if request.solver_named else f", the default for {request.problem.entry.views[0]}"
    _say(f"problem={request.problem.option} solver={request.solver.option}{how}")
    from sciml.configuration.compose import compose
    from sciml.registry import fitting
    from sciml.runs.folder import new_folder
    from sciml.solver import misfit, require_posed

    config, made = compose(request)
    problem, solver, _ = made
    reason = misfit(problem, solver)
    if reason:
        raise UserError(f"{reason} (solvers that fit: {', '.join(fitting(problem)) or 'none'})")
    for line in require_posed(problem):
        _say(f"warning: {line}")
    chosen = (request.problem, problem.name), (request.solver, solver.name)
    names = tuple(name if choice.option == choice.base else choice.option for choice, name in chosen)
    return config, made, request.folder or new_folder(config, names)


def _continued(request: Resumption) -> "tuple[Config, Made, Path]":
    """Read the configuration of a run that was stopped."""
    from sciml.configuration.compose import read_config, require_trusted
    from sciml.runs.folder import CONFIG

    config = read_config(request.folder / CONFIG)
    require_trusted(config, request.named, "problem=<that file>:<class> beside resume=")
    return config, config.make(), request.folder


def _run(config: "Config", made: "Made", folder: Path, resume: bool, began: float) -> None:
    from sciml.runs.execution import execute

    if resume and _is_done(folder):
        _say(f"the run in {folder} has ended already")
        return
    with TerminalProgress(f"{made[0].name}/{made[1].name}") as progress:
        execute(config, made, folder, progress, resume, began)


def _report(config: "Config", made: "Made", folder: Path, compare: bool) -> None:
    """Print this solver, the baseline and the trivial answer, and where things lie."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sciml.runs.folder import Run, read_metrics

    metrics = read_metrics(folder)
    if metrics is None:
        return
    primary, seconds = metrics["primary"], metrics["seconds"]
    table = Table("solver", "kind", primary, "seconds solve", "seconds evaluate")
    numbers = metrics["errors"][primary], seconds["train"], seconds["evaluate"]
    rows = [_Row(metrics["solver"], metrics["kind"], *_texts(metrics["notes"], *numbers))]
    try:
        rows += _others(config, made) if compare else ()
    finally:
        for row in rows:
            # Text, as an error message may hold what rich takes for markup.
            table.add_row(*map(Text, row[:-1]))
        Console(file=sys.stdout, highlight=False).print(table)
        for row in filter(lambda r: r.caveats, rows):
            print(f"{MARK.strip():7} {row.solver}: {row.caveats}")
        print(f"run     {folder}")
        for figure in Run(folder, config, metrics).figures:
            print(f"figure  {figure}")


class _Row(NamedTuple):
    solver: str
    kind: str
    error: str
    solve: str = ""
    evaluate: str = ""
    caveats: str = ""


def _texts(notes: Mapping[str, float | str], error: float, solve: float, evaluate: float) -> tuple[str, ...]:
    about = ", ".join(caveats(notes))
    return f"{error:.3g}{MARK if about else ''}", f"{solve:.3g}", f"{evaluate:.3g}", about


def _others(config: "Config", made: "Made") -> Iterator[_Row]:
    """Yield the rows of the problem's classical baseline and of its trivial answer."""
    from sciml.runs.execution import judge, measure
    from sciml.solver import Context, misfit

    problem, solver, _ = made
    choice = {name: find("solver", name).load()() for name in baselines(find("problem", config.problem["name"]))}
    name = next((n for n, classical in choice.items() if misfit(problem, classical) is None), next(iter(choice), None))
    if name and name != config.solver["name"]:
        classical = choice[name]
        try:
            reason = misfit(problem, classical)
            if reason:
                raise UserError(reason)
            with TerminalProgress(f"{problem.name}/{name}") as progress:
                outcome = measure(problem, classical, Context(config.seed, progress=progress))
            numbers = outcome.errors[problem.primary], outcome.train, outcome.evaluate
            yield _Row(name, classical.kind, *_texts(outcome.solution.notes, *numbers))
        except Exception as error:
            # The run asked for went well; whatever breaks beside it must not hide that.
            known = isinstance(error, (SolveError, UserError))
            reason = str(error) if known else f"{type(error).__name__}: {error}"
            yield _Row(name, "classical", f"failed: {' '.join(reason.split())}")
    if solver.kind != "trivial":
        began = time.perf_counter()
        answer = problem.trivial()
        solve = time.perf_counter() - began
        errors, evaluate = judge(problem, answer, config.seed)
        yield _Row("trivial", "trivial", *_texts({}, errors[problem.primary], solve, evaluate))


def _print_json(folder: Path) -> None:
    from sciml.runs.folder import finite, read_metrics

    metrics = read_metrics(folder)
    if metrics is not None:
        print(json.dumps(finite(metrics | {"run": str(folder)}), allow_nan=False), flush=True)


def _is_helper(folder: Path | None) -> bool:
    """Return whether torchrun started this process as another one than the first."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    if folder is None:
        raise UserError("under torchrun all processes share one run folder; name it with run.dir=")
    return int(os.environ["RANK"]) > 0


def _help(config: "Config", made: "Made", folder: Path, resume: bool) -> None:
    """Train along with the first process, which alone writes the run folder."""
    from sciml.runs.folder import CONFIG
    from sciml.solver import Context

    while not (folder / CONFIG).exists():
        time.sleep(0.1)
    if not _is_done(folder):
        made[1].solve(made[0], Context(config.seed, made[2], folder, resume))


def _is_done(folder: Path) -> bool:
    """Return whether the run in a folder went well."""
    from sciml.runs.folder import read_metrics

    metrics = read_metrics(folder)
    return metrics is not None and metrics["status"] == "ok"


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does."""

    def stop(number: int, _frame: object) -> None:
        raise Interrupted("terminated", number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
