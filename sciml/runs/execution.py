"""One run from its configuration to its folder."""

import csv
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from sciml.configuration.compose import Config, Made
from sciml.errors import SolveError, UserError
from sciml.files import replacing, write_text
from sciml.problem import Problem
from sciml.progress import Progress
from sciml.runs.folder import CONFIG, METRICS, PROVENANCE, SOLUTION, write_json
from sciml.runs.provenance import cpu_seconds, gpu_name, provenance
from sciml.runs.solution_file import write_solution
from sciml.solution import Posterior, Solution
from sciml.solver import Context, Solver, require_posed

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Clock:
    """Wall-clock seconds spent in the calls that it wraps."""

    seconds: float = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


@dataclass(frozen=True)
class Outcome:
    """How well a solver did.

    Args:
        solution: its answer.
        errors: every score by name.
        train: seconds of solving.
        evaluate: seconds that the answer took where it was scored.
        whole: seconds from the call of the solver to the evaluated answer, its set-up included.
    """

    solution: Solution
    errors: Mapping[str, float]
    train: float
    evaluate: float
    whole: float


def measure(problem: Problem, solver: Solver[Any], context: Context) -> Outcome:
    """Solve a problem and score the answer.

    Raises:
        SolveError: the method broke down, or its primary score is not a number.
    """
    began = time.perf_counter()
    solution = solver.solve(problem, context)
    solve = time.perf_counter() - began
    train = solution.notes.get("seconds", solve)
    errors, evaluate = judge(problem, solution, context.seed)
    if not np.isfinite(errors[problem.primary]):
        raise SolveError(f"the {problem.primary} of {solver.name} is not a finite number")
    return Outcome(solution, errors, float(train), evaluate, solve + evaluate)


def judge(problem: Problem, solution: Solution, seed: int) -> tuple[Mapping[str, float], float]:
    """Return every score of a solution, and the seconds that its function took while it was scored."""
    clock = Clock()
    timed = replace(solution, function=clock.around(solution.function))
    if isinstance(timed, Posterior):
        timed = replace(timed, sampler=clock.around(timed.sampler))
    return problem.score(timed, seed), clock.seconds


@dataclass
class Log(Progress):
    """Keeps every line with its time in ``log.txt`` and passes reports on.

    Args:
        path: the file, written anew at most every ``interval`` seconds.
        progress: who else is told.
    """

    path: Path
    progress: Progress
    interval: float = 5.0
    lines: list[str] = field(default_factory=list)
    written: float = 0.0

    def line(self, text: str) -> None:
        """Add one line."""
        self.lines.append(f"{datetime.now().isoformat(timespec='milliseconds')} {text}")
        if time.monotonic() - self.written >= self.interval:
            self.write()

    def write(self) -> None:
        """Write the file."""
        write_text(self.path, "\n".join(self.lines) + "\n")
        self.written = time.monotonic()

    def report(self, done: float, values: Mapping[str, float]) -> None:
        self.line(f"{done:7.2%} " + " ".join(f"{name}={value:.6g}" for name, value in values.items()))
        self.progress.report(done, values)


@dataclass
class Record:
    """What a run writes about itself, from its start to its end."""

    folder: Path
    log: Log
    began: float
    origin: dict[str, Any]
    metrics: dict[str, Any]

    def warn(self, warnings: Sequence[str]) -> None:
        """Take what is odd about the problem's definition."""
        self.metrics["warnings"] = list(warnings)
        for line in warnings:
            self.log.line(f"warning: {line}")

    def keep(self, outcome: Outcome) -> None:
        """Take the outcome of a run that went well."""
        notes = dict(outcome.solution.notes)
        self.origin |= {key: notes.get(key, self.origin[key]) for key in ("device", "precision")}
        self.metrics |= {"status": "ok", "errors": dict(outcome.errors), "notes": notes}
        self.metrics["stop_reason"] = notes.get("stop_reason", "solved")
        self.metrics["seconds"] |= {
            "train": outcome.train,
            "evaluate": outcome.evaluate,
            "whole": outcome.whole,
        }

    def fail(self, error: BaseException) -> None:
        """Take the error that ended a run."""
        self.metrics["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        known = isinstance(error, (SolveError, UserError, KeyboardInterrupt))
        self.metrics["stop_reason"] = str(error) if known else f"{type(error).__name__}: {error}"
        if not known:
            self.log.line("".join(traceback.format_exception(error)))

    def close(self) -> None:
        """Write what is known at the end, the metrics last."""
        self.log.line(f"{self.metrics['status']}: {self.metrics['stop_reason']} {self.metrics['errors']}")
        self.log.write()
        used = {"cpu_seconds": cpu_seconds()}
        ended = {"gpu": gpu_name(), "wall_seconds": time.perf_counter() - self.began}
        write_json(self.folder / PROVENANCE, self.origin | ended | used)
        write_json(self.folder / METRICS, self.metrics | used)


def execute(
    config: Config,
    made: Made,
    folder: Path,
    progress: Progress,
    resume: bool = False,
    began: float | None = None,
) -> None:
    """Run a configuration in its folder; the pair is known to fit.

    Args:
        config: what is written to the folder.
        made: the problem, the solver and the training it describes.
        folder: the run folder, made if it does not exist.
        progress: told while the work goes on.
        resume: go on from the checkpoint in the folder.
        began: ``time.perf_counter()`` when the set-up of the run began.

    Raises:
        UserError: what was asked for cannot be had; a folder made for it is gone again unless it holds a checkpoint.
        SolveError: the method broke down; the metrics say so.
        KeyboardInterrupt: the run was asked to stop; the metrics say so.
    """
    problem, solver, training = made
    warnings = require_posed(problem)
    _make_folder(folder, resume)
    record = _begin(config, made, folder, progress, resume, time.perf_counter() if began is None else began)
    record.warn(warnings)
    try:
        problem.prepare()
        record.metrics["seconds"]["setup"] = time.perf_counter() - record.began
        outcome = measure(problem, solver, Context(config.seed, training, folder, resume, record.log))
        record.keep(outcome)
        _write_outcome(folder, problem, outcome, config, record.origin)
    except BaseException as error:
        if isinstance(error, UserError) and not resume and not _has_checkpoint(folder):
            shutil.rmtree(folder)
            raise
        record.fail(error)
        record.close()
        raise
    record.close()


def _has_checkpoint(folder: Path) -> bool:
    from sciml.training.checkpoint import last_checkpoint

    return last_checkpoint(folder).exists()


def _begin(
    config: Config,
    made: Made,
    folder: Path,
    progress: Progress,
    resume: bool,
    began: float,
) -> Record:
    problem, solver, training = made
    write_text(folder / CONFIG, yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True))
    precision = (training.precision if solver.kind == "neural" else None) or solver.precision_default
    origin = provenance(config.seed) | {"precision": precision, "device": "cpu", "resumed": resume}
    write_json(folder / PROVENANCE, origin)
    log = Log(folder / "log.txt", progress, lines=_earlier_lines(folder, resume))
    again = ", resumed" if resume else ""
    log.line(f"{solver.name} on {problem.name}, seed {config.seed}, configuration {config.hash}{again}")
    metrics = {
        "status": "failed",
        "problem": problem.name,
        "solver": solver.name,
        "kind": solver.kind,
        "deterministic": solver.deterministic,
        "seed": config.seed,
        "config_hash": config.hash,
        "primary": problem.primary,
        "thresholds": list(problem.thresholds),
        "errors": {},
        "seconds": {"setup": None, "train": None, "evaluate": None, "whole": None},
        "cpu_seconds": None,
        "stop_reason": None,
        "notes": {},
        "warnings": [],
    }
    return Record(folder, log, began, origin, metrics)


def _make_folder(folder: Path, resume: bool) -> None:
    try:
        if not resume:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise UserError(f"{folder} is not empty; name another run.dir, or continue with resume={folder}")
        (folder / METRICS).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the run folder {folder}: {error.strerror}") from None


def _earlier_lines(folder: Path, resume: bool) -> list[str]:
    path = folder / "log.txt"
    return path.read_text(encoding="utf-8").splitlines() if resume and path.exists() else []


def _write_outcome(folder: Path, problem: Problem, outcome: Outcome, config: Config, origin: Mapping[str, Any]) -> None:
    title = f"{config.solver['name']} on {config.problem['name']}"
    attributes = {
        "title": title,
        "config": asdict(config),
        "provenance": dict(origin),
        "errors": dict(outcome.errors),
        "reference_error": problem.reference_error,
    }
    write_solution(folder / SOLUTION, problem.table(outcome.solution), outcome.solution.state, attributes)
    (folder / "figures").mkdir(exist_ok=True)
    for name, figure in _figures(folder, problem, outcome.solution):
        with replacing(folder / "figures" / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight")


def _figures(folder: Path, problem: Problem, solution: Solution) -> Iterator[tuple[str, "Figure"]]:
    yield from problem.figures(solution)
    path = folder / "history.csv"
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if rows:
        from sciml.figures import history_figure

        yield "history", history_figure({name: [row[name] for row in rows] for name in rows[0]})
