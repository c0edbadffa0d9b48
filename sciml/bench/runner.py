"""The cells of a benchmark, planned and run side by side, and then its table."""

import contextlib
import fcntl
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sciml.bench import pool
from sciml.bench.benchmark import Benchmark
from sciml.bench.board import assemble
from sciml.bench.cells import Cell, Chosen, Entry, Misfit, Plan, pair
from sciml.bench.records import is_complete, read_result, record_failure
from sciml.bench.render import publish, terminal
from sciml.bench.targets import Target, read_target
from sciml.configuration.choices import CONFIGS, choose, read_yaml
from sciml.configuration.compose import typed
from sciml.errors import UserError, did_you_mean
from sciml.registry import Group, entries

if TYPE_CHECKING:
    from rich.console import Console

_T = TypeVar("_T")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

WITHIN = 0.95
"""The part of a target's seconds that is left for the training; the rest is for the answer's evaluation."""


def run(choices: Benchmark, worker: Sequence[str]) -> int:
    """Run what is asked for and write the table; return the exit code.

    Raises:
        UserError: parameters that are refused, or a folder that cannot be made or that another benchmark uses.
    """
    plan = make_plan(choices)
    console = terminal()
    try:
        choices.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {choices.folder}: {error.strerror}; name another dir=") from None
    with _locked(choices.folder) as lock:
        plan.write(choices.folder)
        code = _run(plan, choices, worker, console, lock)
        publish(assemble([choices.folder]), choices.folder, console)
    return code


def make_plan(choices: Benchmark) -> Plan:
    """Find out what fits and what there is to run, without running it.

    Raises:
        UserError: an unknown name, or parameters that a problem, a solver or the training refuses.
    """
    problems = _load("problem", choices.problem, choices.problem_parameters)
    solvers = _load("solver", choices.solver, choices.solver_parameters)
    targets = _targets(choices)
    own = dict(_by_pair(choices.pair_parameters))
    planned = []
    for problem in problems:
        for solver in solvers:
            extra = own.get((problem.word, solver.word))
            method = _choose("solver", solver.word, {**solver.settings, **extra}) if extra else solver
            planned.append(_pair(problem, method, choices, targets))
    return Plan(
        entries=tuple(p for p in planned if isinstance(p, Entry)),
        misfits=tuple(p for p in planned if isinstance(p, Misfit)),
        conditions={
            "cores": _cores(),
            "jobs": choices.jobs,
            "timeout_s": choices.timeout,
            "memory_gib": _memory(choices),
        },
    )


def _pair(
    problem: Chosen, solver: Chosen, choices: Benchmark, targets: Mapping[tuple[str, str], Target]
) -> Entry | Misfit:
    """Plan a pair; one with a target has its time, a classical solver at least the problem's longest."""
    trainer, target = dict(choices.trainer), targets.get((problem.word, solver.word))
    if target:
        trainer["max_seconds"] = WITHIN * target.seconds
    elif solver.made.kind == "classical" and trainer.get("max_seconds") is not None:
        longest = max((WITHIN * t.seconds for (word, _), t in targets.items() if word == problem.word), default=0.0)
        trainer["max_seconds"] = max(trainer["max_seconds"], longest)
    return pair(problem, solver, choices.seed, trainer, target, choices.ladder_seeds)


def _targets(choices: Benchmark) -> dict[tuple[str, str], Target]:
    return {names: read_target(*names, target) for names, target in _by_pair(choices.targets)}


def _by_pair(given: Mapping[str, Mapping[str, _T]]) -> Iterator[tuple[tuple[str, str], _T]]:
    """Yield what is given for pairs, by names that exist; pairs that are not asked for do no harm."""
    for problem, each in given.items():
        choose("problem", problem)
        for solver, value in each.items():
            choose("solver", solver)
            yield (problem, solver), value


def _load(group: Group, words: Sequence[str], parameters: Mapping[str, Mapping[str, Any]]) -> list[Chosen]:
    words = list(entries(group)) if "all" in words else words
    for word in parameters:
        if word not in words:
            near = did_you_mean(word, words)
            raise UserError(f"parameters of {word!r} are set, but it is no {group} asked for{near}")
    return [_choose(group, word, parameters.get(word, {})) for word in words]


def _choose(group: Group, word: str, settings: Mapping[str, Any]) -> Chosen:
    choice = choose(group, word)
    variant = {} if choice.option == choice.base else read_yaml(CONFIGS / group / f"{choice.option}.yaml")
    own = {key: value for key, value in variant.items() if key != "defaults"}
    cls = choice.entry.load()
    return Chosen(word, choice.entry.name, cls(**typed(cls, {**own, **settings})), settings)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _memory(choices: Benchmark) -> float | None:
    """Return the GiB that a cell may use; None where this system does not tell."""
    if choices.memory is not None and not pool.memory_is_watched():
        raise UserError("memory= needs /proc, which this system lacks; leave it out")
    free = pool.available_memory() if pool.memory_is_watched() else None
    return choices.memory or (round(0.9 * free / choices.jobs / 2**30, 2) if free else None)


def _run(plan: Plan, choices: Benchmark, worker: Sequence[str], console: "Console", lock: int) -> int:
    """Run what is not complete yet; return the exit code."""
    root = choices.folder
    cells = {cell.folder: cell for cell in plan.cells()}
    waiting = [cell for cell in cells.values() if not is_complete(root / cell.folder)]
    if len(waiting) < len(cells):
        console.print(f"{len(cells) - len(waiting)} of {len(cells)} cells are complete already", highlight=False)
    threads = str(max(1, _cores() // choices.jobs))
    memory = plan.conditions["memory_gib"]
    limits = pool.Limits(choices.timeout, float(memory) * 2**30 if memory else None, choices.retries + 1)
    owners = {cell.folder: entry for entry in plan.entries for cell in entry.runs()}
    try:
        with _terminable(), watching(console, len(waiting)) as told:

            def finished(command: pool.Command, outcome: pool.Outcome) -> None:
                cell = cells[command.name]
                if outcome.failure and read_result(root / cell.folder) is None:
                    reason = _reason(outcome, command.log)
                    record_failure(root / cell.folder, owners[cell.folder], cell.seed, reason)
                told(_line(root, cell, outcome))

            pool.run(
                [_command(root, cell, worker) for cell in waiting],
                choices.jobs,
                limits,
                dict.fromkeys(_THREADS, threads),
                finished,
                inherit=(lock,),
            )
    except KeyboardInterrupt:
        console.print("Stopped; finished cells are kept, and the same command goes on with the others", highlight=False)
        return 130
    return 0


def _command(root: Path, cell: Cell, worker: Sequence[str]) -> pool.Command:
    folder = root / cell.folder

    def clear() -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            shutil.rmtree(folder)

    words = (*cell.words, f"run.dir={folder}")
    return pool.Command(cell.folder, (*worker, *words), folder.with_name(f"{folder.name}.log"), clear)


def _reason(outcome: pool.Outcome, log: Path) -> str:
    """Return why a cell failed: the limit or signal that ended it, or the last line that it said."""
    reason = outcome.failure or ""
    if outcome.code and not pool.killed_by(outcome.code):
        said = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
        last = next((line for line in reversed(said) if line), "")
        reason = f"{reason}: {last[:200]}" if last else reason
    return f"{reason}, {outcome.attempts} times" if outcome.attempts > 1 else reason


def _line(root: Path, cell: Cell, outcome: pool.Outcome) -> str:
    run = read_result(root / cell.folder)
    if run is None:
        return f"{cell.folder}: unfinished, ended without metrics.json"
    result = f"failed: {run.failure}" if run.failure else f"error {run.error:.1e}"
    return f"{cell.folder}: {result}, {outcome.seconds:.1f} s"


@contextlib.contextmanager
def watching(console: "Console", total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function that tells of a cell's end: above a bar in a terminal, in lines elsewhere."""
    done = 0
    if not console.is_terminal:

        def tell(line: str) -> None:
            nonlocal done
            done += 1
            console.print(f"[{done}/{total}] {line}", markup=False, highlight=False, soft_wrap=True)

        yield tell
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    with Progress(
        BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        task = bar.add_task("cells", total=total)

        def advance(line: str) -> None:
            bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
            bar.advance(task)

        yield advance


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the benchmark as Ctrl-C does, so that no worker outlives it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Hold the folder for this benchmark and the workers that inherit the lock, even such as outlive it.

    Raises:
        UserError: another benchmark, or a worker that it left, holds it.
    """
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another benchmark, or a worker that it left, uses {folder}; wait, or take another dir="
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)
