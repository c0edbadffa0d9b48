"""The benchmark table as data: rows with estimates, and who wins each problem."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sciml.bench.cells import Entry, Misfit, Plan, read_plan
from sciml.bench.records import Result, first_reached, is_run_folder, read_result
from sciml.bench.stats import Estimate, geometric_mean, leaders
from sciml.bench.targets import Target, Verdict
from sciml.problem import Problem

KINDS = ("classical", "neural", "peer", "trivial")


@dataclass(frozen=True)
class Step:
    """A step of a ladder: the parameter's value and the runs that came to an end, one per seed."""

    parameter: str
    value: float | int | str
    runs: tuple[Result, ...]

    @property
    def error(self) -> float:
        """The median over seeds; a failed one is infinite."""
        return float(np.median([r.error for r in self.runs]))

    @property
    def seconds(self) -> float:
        """The median over seeds of the seconds until the answer is at hand; of a failed one infinite."""
        return float(np.median([r.seconds if r.failure is None else math.inf for r in self.runs]))


@dataclass(frozen=True)
class Row:
    """A solver on a problem.

    Args:
        solver: its name.
        kind: classical, neural, peer or trivial.
        config: hash of its configuration, the seed left out.
        planned: number of seeds asked for.
        runs: the runs that came to an end, one per seed.
        steps: its ladder, as far as it ran, coarse to fine.
        verdict: what the table says of it.
        target: what the suite expects of it.
    """

    solver: str
    kind: str
    config: str
    planned: int
    runs: tuple[Result, ...] = ()
    steps: tuple[Step, ...] = ()
    verdict: str = ""
    target: Target | None = None

    @property
    def deterministic(self) -> bool:
        """Whether one seed stands for all."""
        return bool(self.runs) and all(r.deterministic for r in self.runs)

    @property
    def estimate(self) -> Estimate | None:
        """The error over seeds; None before any run ended."""
        return geometric_mean([r.error for r in self.runs], self.deterministic) if self.runs else None

    @property
    def best(self) -> tuple[str, Estimate] | None:
        """The estimate that counts for the verdict, and of which step of the ladder, empty for the default.

        A ladder says how much effort a solver may spend; one that would win with more effort than its default, as
        an expert would give it, is not beaten. Steps count that ran on as many seeds as the default.
        """
        if self.estimate is None:
            return None
        choices = [("", self.estimate)]
        for step in self.steps:
            if len(step.runs) == len(self.runs):
                estimate = geometric_mean([r.error for r in step.runs], self.deterministic)
                choices.append((f"{step.parameter}={step.value}", estimate))
        return min(choices, key=lambda choice: choice[1].mean)

    @property
    def finished(self) -> int:
        """Number of seeds that gave an answer."""
        return len(self.answered)

    @property
    def answered(self) -> tuple[Result, ...]:
        """The runs that did not fail."""
        return tuple(r for r in self.runs if r.failure is None)

    def median(self, name: str) -> float:
        """Return the median over seeds of ``train``, ``evaluate`` or ``seconds``; NaN where none answered."""
        return float(np.median([getattr(r, name) for r in self.answered])) if self.answered else math.nan

    def seconds_to(self, threshold: float) -> float:
        """Return the seconds until an answer with at most this error is at hand; infinite where never.

        Of a solver with a ladder: those of its coarsest step that is accurate enough, if there is one. Else
        the training clock when the error that was followed first fell to the threshold (the whole time
        where none was followed), and one evaluation; the median over seeds, where one that failed or never
        got there is infinite.
        """
        for step in self.steps:
            if step.error <= threshold:
                return step.seconds
        times = [first_reached(r.curve, threshold) + r.evaluate for r in self.runs if r.failure is None]
        times += [math.inf] * (len(self.runs) - len(times))
        return float(np.median(times)) if times else math.inf


@dataclass(frozen=True)
class Section:
    """One problem: its rows from best to worst, and the outcome: the kind that wins, tie or undecided."""

    title: str
    problem: str
    rows: tuple[Row, ...]
    outcome: str

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Errors to which seconds are counted."""
        return next((run.thresholds for row in self.rows for run in row.runs), Problem.thresholds)

    @property
    def score(self) -> str:
        """The name of the score that counts as the error; empty before any run gave an answer."""
        return next((run.score for row in self.rows for run in row.answered), "")


@dataclass(frozen=True)
class Board:
    """Everything the table shows."""

    sections: tuple[Section, ...]
    misfits: tuple[Misfit, ...]
    unfinished: tuple[Path, ...]
    conditions: Mapping[str, float | int | None]

    @property
    def runs(self) -> tuple[Result, ...]:
        """Every run that came to an end, once."""
        rows = [row for section in self.sections for row in section.rows]
        runs = [r for row in rows for r in (*row.runs, *(r for step in row.steps for r in step.runs))]
        return tuple({r.folder: r for r in runs}.values())

    @property
    def failed(self) -> tuple[Result, ...]:
        """Every run that failed."""
        return tuple(r for r in self.runs if r.failure is not None)

    @property
    def targets(self) -> tuple[Verdict, ...]:
        """What the suite expects, met or not."""
        rows = [(section.title, row) for section in self.sections for row in section.rows]
        tried = [Verdict(title, r.solver, r.target, r.planned, r.runs) for title, r in rows if r.target]
        return (*tried, *(Verdict(m.problem, m.solver, m.target) for m in self.misfits if m.target))

    @property
    def headline(self) -> str:
        """Who wins how often."""
        outcomes = [s.outcome for s in self.sections]
        counts = {kind: outcomes.count(kind) for kind in (*KINDS, "tie", "undecided")}
        total = len(outcomes)
        text = f"Of {total} problem{'s' * (total != 1)}: classical wins {counts['classical']}, "
        text += f"neural wins {counts['neural']}, ties {counts['tie']}"
        others = ("peer", "trivial")
        text += "".join(f", {kind} wins {counts[kind]}" for kind in others if counts[kind])
        return text + (f", undecided {counts['undecided']}" if counts["undecided"] else "")


@dataclass
class _Group:
    kind: str
    seeds: set[int] = field(default_factory=set)
    runs: dict[int, Result] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    target: Target | None = None


@dataclass
class _Gathered:
    groups: dict[tuple[str, str], dict[tuple[str, str], _Group]] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)
    unfinished: list[Path] = field(default_factory=list)

    def group(self, problem: str, question: str, solver: str, config: str, kind: str) -> _Group:
        rows = self.groups.setdefault((problem, question), {})
        return rows.setdefault((solver, config), _Group(kind))


def assemble(folders: Iterable[Path]) -> Board:
    """Read benchmarks and run folders, at any depth, into one board.

    A folder with a plan counts as its plan says; any other run counts as one seed of its configuration, the
    latest where a seed was run twice.

    Raises:
        UserError: a damaged plan.
    """
    found = _Gathered()
    for folder in folders:
        _gather(folder, found)
    sections = [
        _section(title, problem, [_row(solver, config, group) for (solver, config), group in rows.items()])
        for title, ((problem, _), rows) in zip(titles(list(found.groups)), found.groups.items(), strict=True)
    ]
    misfits = dict.fromkeys(m for plan in found.plans for m in plan.misfits)
    conditions = found.plans[0].conditions if len(found.plans) == 1 else {}
    return Board(tuple(sections), tuple(misfits), tuple(found.unfinished), conditions)


def titles(questions: Sequence[tuple[str, str]]) -> list[str]:
    """Return what (problem, parameters) are called: the name, and in what parameters those of one name differ."""
    said = [(problem, re.split(r" (?=\w+=)", parameters)) for problem, parameters in questions]
    shared = {name: set.intersection(*(set(each) for other, each in said if other == name)) for name, _ in said}
    return [" ".join([name, *(part for part in parts if part not in shared[name])]) for name, parts in said]


def outcome(rows: Sequence[Row]) -> tuple[str, list[int]]:
    """Return who wins a problem and its leading rows.

    Each row counts with its best estimate, ``Row.best``. The row with the smallest mean leads, and with it
    those whose intervals overlap its own; the trivial answer only where its mean is the smallest. One seed of
    a random method has no interval and counts as its mean alone. Where such a row leads, or no error is
    finite, the problem is undecided; else a kind wins where all leaders are of that kind, and they tie where
    not.
    """
    known = [(i, best[1]) for i, row in enumerate(rows) if (best := row.best) is not None]
    leading = [known[k] for k in leaders([estimate for _, estimate in known])]
    smallest = min((estimate.mean for _, estimate in leading), default=math.inf)
    leading = [(i, e) for i, e in leading if rows[i].kind != "trivial" or e.mean == smallest]
    first = [i for i, _ in leading]
    if not leading or not all(e.bounded for _, e in leading):
        return "undecided", first
    kinds = {rows[i].kind for i in first}
    return (kinds.pop() if len(kinds) == 1 else "tie"), first


def _section(title: str, problem: str, rows: list[Row]) -> Section:
    rows = sorted(rows, key=lambda r: (r.estimate is None, r.estimate.mean if r.estimate else 0.0, r.solver))
    winner, first = outcome(rows)
    verdict = winner if winner in ("tie", "undecided") else f"{winner} wins"
    judged = (replace(row, verdict=verdict + _with_step(row) if i in first else "") for i, row in enumerate(rows))
    return Section(title, problem, tuple(judged), winner)


def _with_step(row: Row) -> str:
    step, estimate = row.best or ("", None)
    return f", {estimate.mean:.1e} with {step}" if step and estimate else ""


def _row(solver: str, config: str, group: _Group) -> Row:
    runs = tuple(run for _, run in sorted(group.runs.items()))
    return Row(solver, group.kind, config, len(group.seeds), runs, tuple(group.steps), "", group.target)


def _gather(folder: Path, found: _Gathered) -> None:
    plan = read_plan(folder)
    if plan:
        found.plans.append(plan)
        for entry in plan.entries:
            _add_entry(folder, entry, found)
    elif is_run_folder(folder):
        _add_run(folder, found)
    else:
        for child in _subfolders(folder):
            _gather(child, found)


def _subfolders(folder: Path) -> Iterator[Path]:
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
            yield child


def _add_entry(root: Path, entry: Entry, found: _Gathered) -> None:
    group = found.group(entry.problem, entry.question, entry.solver, entry.config, entry.kind)
    runs = {cell.folder: read_result(root / cell.folder) for cell in entry.runs()}
    group.target = entry.target or group.target
    found.unfinished.extend(root / folder for folder, run in runs.items() if run is None)
    group.seeds.update(cell.seed for cell in entry.cells)
    group.runs |= {cell.seed: run for cell in entry.cells if (run := runs[cell.folder])}
    for rung in entry.rungs:
        ended = tuple(run for cell in rung.cells if (run := runs[cell.folder]))
        if ended:
            group.steps.append(Step(rung.parameter, rung.value, ended))


def _add_run(folder: Path, found: _Gathered) -> None:
    run = read_result(folder)
    if run is None:
        found.unfinished.append(folder)
        return
    group = found.group(run.problem, run.question, run.solver, run.config, run.kind)
    group.seeds.add(run.seed)
    known = group.runs.get(run.seed)
    if known is None or known.ended < run.ended:
        group.runs[run.seed] = run
