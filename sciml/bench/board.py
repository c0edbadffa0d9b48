"""The benchmark table as data: rows with estimates, and who wins each problem."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sciml.bench.cells import Entry, Misfit, Plan, read_plan
from sciml.bench.records import Result, first_reached, is_run_folder, read_result
from sciml.bench.stats import Estimate, geometric_mean, leaders
from sciml.problem import Problem

KINDS = ("classical", "neural", "peer", "trivial")


@dataclass(frozen=True)
class Step:
    """A finished run of a ladder: the parameter's value and the run."""

    parameter: str
    value: float | int | str
    run: Result


@dataclass(frozen=True)
class Row:
    """A solver on a problem.

    Args:
        solver: its name.
        kind: classical, neural, peer or trivial.
        config: hash of its configuration, the seed left out.
        planned: number of seeds asked for.
        runs: the runs that came to an end, one per seed.
        steps: the runs of its ladder that came to an end, coarse to fine.
        deterministic: whether one seed stands for all.
        verdict: what the table says of it.
    """

    solver: str
    kind: str
    config: str
    planned: int
    runs: tuple[Result, ...] = ()
    steps: tuple[Step, ...] = ()
    deterministic: bool = False
    verdict: str = ""

    @property
    def estimate(self) -> Estimate | None:
        """The error over seeds; None before any run ended."""
        return geometric_mean([r.error for r in self.runs], self.deterministic) if self.runs else None

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

        Of a solver with a ladder: those of its coarsest run that is accurate enough, if there is one. Else
        the training clock when the error that was followed first fell to the threshold (the whole time
        where none was followed), and one evaluation; the median over seeds, where one that failed or never
        got there is infinite.
        """
        for step in self.steps:
            if step.run.error <= threshold:
                return step.run.seconds
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
    thresholds: tuple[float, ...]

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
    failed: tuple[Result, ...]
    conditions: Mapping[str, float | int | None]

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
    deterministic: bool = False
    seeds: set[int] = field(default_factory=set)
    runs: dict[int, Result] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


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
    thresholds = {name: values for plan in found.plans for name, values in plan.thresholds.items()}
    names = [problem for problem, _ in found.groups]
    sections = [
        _section(
            problem if names.count(problem) == 1 else f"{problem} {question}".strip(),
            problem,
            [_row(solver, config, group) for (solver, config), group in rows.items()],
            thresholds.get(problem, Problem.thresholds),
        )
        for (problem, question), rows in found.groups.items()
    ]
    runs = [r for s in sections for row in s.rows for r in (*row.runs, *(step.run for step in row.steps))]
    failed = {r.folder: r for r in runs if r.failure is not None}
    misfits = dict.fromkeys(m for plan in found.plans for m in plan.misfits)
    conditions = found.plans[0].conditions if len(found.plans) == 1 else {}
    return Board(tuple(sections), tuple(misfits), tuple(found.unfinished), tuple(failed.values()), conditions)


def outcome(rows: Sequence[Row]) -> tuple[str, list[int]]:
    """Return who wins a problem and its leading rows: the best and those whose intervals overlap its own.

    A kind wins where all leaders are of that kind; else they tie. Without a finite error nobody wins.
    """
    ranked = [(i, row.estimate) for i, row in enumerate(rows)]
    known = [(i, estimate) for i, estimate in ranked if estimate is not None]
    first = [known[k][0] for k in leaders([estimate for _, estimate in known])]
    kinds = {rows[i].kind for i in first}
    if not kinds:
        return "undecided", first
    return (kinds.pop() if len(kinds) == 1 else "tie"), first


def _section(title: str, problem: str, rows: list[Row], thresholds: tuple[float, ...]) -> Section:
    rows = sorted(rows, key=lambda r: (r.estimate is None, r.estimate.mean if r.estimate else 0.0, r.solver))
    winner, first = outcome(rows)
    verdict = winner if winner in ("tie", "undecided") else f"{winner} wins"
    judged = (replace(row, verdict=verdict if i in first else "") for i, row in enumerate(rows))
    return Section(title, problem, tuple(judged), winner, thresholds)


def _row(solver: str, config: str, group: _Group) -> Row:
    runs = tuple(run for _, run in sorted(group.runs.items()))
    return Row(solver, group.kind, config, len(group.seeds), runs, tuple(group.steps), group.deterministic)


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
    group.deterministic = entry.deterministic
    for cell in entry.cells:
        group.seeds.add(cell.seed)
        run = read_result(root / cell.folder)
        if run is None:
            found.unfinished.append(root / cell.folder)
        else:
            group.runs[cell.seed] = run
    for rung in entry.rungs:
        run = read_result(root / rung.cell.folder)
        if run is not None:
            group.steps.append(Step(rung.parameter, rung.value, run))
        elif root / rung.cell.folder not in found.unfinished:
            found.unfinished.append(root / rung.cell.folder)


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
