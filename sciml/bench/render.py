"""The benchmark table: in the terminal, and as Markdown, CSV and JSON files with a figure per problem."""

import csv
import io
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciml.bench.board import Board, Row, Section
from sciml.bench.figures import work_precision
from sciml.bench.numbers import plain, seconds_text
from sciml.bench.records import Result
from sciml.bench.stats import FLOOR
from sciml.bench.targets import COLUMNS, headline, target_data, target_texts
from sciml.files import write_text
from sciml.runs.caveats import MARK

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def terminal() -> "Console":
    """Return the terminal, or a page wide enough for the table where output goes elsewhere."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=180)


def publish(board: Board, folder: Path, console: "Console") -> None:
    """Print the table and write its files and figures into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {}
    for section in board.sections:
        path = folder / "work-precision" / f"{_stem(section.title)}.png"
        if work_precision(section, path):
            figures[section.title] = path.relative_to(folder)
    written = {
        folder / "table.md": markdown(board, figures),
        folder / "table.csv": comma_separated(board),
        folder / "table.json": json.dumps(as_data(board), indent=2, allow_nan=False) + "\n",
    }
    for path, text in written.items():
        write_text(path, text)
    show(board, console)
    console.print(f"Table: {', '.join(map(str, written))}", soft_wrap=True, highlight=False, markup=False)
    for title, path in figures.items():
        console.print(f"Figure of {title}: {folder / path}", soft_wrap=True, highlight=False, markup=False)


@dataclass(frozen=True)
class _Column:
    title: str
    numeric: bool = True


def columns(section: Section) -> list[_Column]:
    """Return the columns of a problem's table."""
    times = [_Column(f"s to {plain(t)}") for t in section.thresholds]
    return [
        _Column("solver", False),
        _Column("kind", False),
        _Column("error [95 % interval]"),
        _Column("seeds"),
        _Column("train, s"),
        _Column("solve, s"),
        *times,
        _Column("parameters"),
        _Column("device", False),
        _Column("config", False),
        _Column("verdict", False),
    ]


def texts(row: Row, section: Section) -> list[str]:
    """Return a row as it is shown, one text per column.

    A classical solver has nothing to train: all its time stands under solve.
    """
    trains = row.kind in ("neural", "peer")
    run = row.answered[0] if row.answered else None
    return [
        row.solver,
        row.kind,
        _error(row),
        f"{row.finished}/{row.planned}",
        seconds_text(row.median("train")) if trains else "–",
        seconds_text(row.median("evaluate" if trains else "seconds")),
        *(_reached(row, threshold) for threshold in section.thresholds),
        f"{run.parameters:,}" if run and run.parameters is not None else "–",
        run.device if run else "–",
        row.config,
        row.verdict,
    ]


def show(board: Board, console: "Console") -> None:
    """Print the table."""
    from rich.text import Text

    for section in board.sections:
        table = _table(section.title)
        for column in columns(section):
            table.add_column(column.title, justify="right" if column.numeric else "left")
        for row in section.rows:
            table.add_row(*map(Text, texts(row, section)), style="bold" if row.verdict else "")
        console.print(table)
    if board.targets:
        table = _table(headline(board.targets))
        for name in COLUMNS:
            table.add_column(name)
        for verdict in board.targets:
            table.add_row(*map(Text, target_texts(verdict)))
        console.print(table)
    for line in _remarks(board):
        console.print(Text(line), soft_wrap=True)
    console.print(Text(board.headline, style="bold"), soft_wrap=True)


def _table(title: str) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Text(title, style="bold")
    return Table(title=shown, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def markdown(board: Board, figures: dict[str, Path]) -> str:
    """Return the table as Markdown."""
    lines = ["# Benchmark", "", f"**{board.headline}.**", ""]
    for section in board.sections:
        shown = columns(section)
        lines += [f"## {_escape(section.title)}", ""]
        lines += ["| " + " | ".join(column.title for column in shown) + " |"]
        lines += ["|" + "|".join("---:" if column.numeric else "---" for column in shown) + "|"]
        lines += ["| " + " | ".join(map(_escape, texts(row, section))) + " |" for row in section.rows]
        lines += [""]
        if section.title in figures:
            lines += [
                f"![Error against seconds on {_escape(section.title)}]({figures[section.title].as_posix()})",
                "",
            ]
    if board.targets:
        lines += [f"## {headline(board.targets)}", "", "| " + " | ".join(COLUMNS) + " |"]
        lines += ["|" + "---|" * len(COLUMNS)]
        lines += ["| " + " | ".join(map(_escape, target_texts(v))) + " |" for v in board.targets] + [""]
    lines += [f"- {_escape(line)}" for line in _remarks(board)]
    return "\n".join(lines) + "\n"


def comma_separated(board: Board) -> str:
    """Return the rows of all problems as CSV, numbers in full; empty where there is none."""
    thresholds = sorted({t for s in board.sections for t in s.thresholds}, reverse=True)
    records = []
    for section in board.sections:
        for row in section.rows:
            data = _row_data(section, row)
            del data["errors"]
            reached = data.pop("seconds_to")
            data |= {f"seconds_to_{plain(t)}": reached.get(plain(t), "") for t in thresholds}
            records.append({k: "" if v is None else v for k, v in data.items()})
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()


def as_data(board: Board) -> dict[str, Any]:
    """Return the table as JSON values; numbers that JSON lacks are the texts inf and nan."""
    return _finite(
        {
            "headline": board.headline,
            "conditions": dict(board.conditions),
            "runs_with": _origins(board),
            "problems": [
                {
                    "problem": s.title,
                    "outcome": s.outcome,
                    "rows": [_row_data(s, r) | {"ladder": _ladder_data(r)} for r in s.rows],
                }
                for s in board.sections
            ],
            "targets": [target_data(v) for v in board.targets],
            "misfits": [asdict(m) for m in board.misfits],
            "failed": [{"run": str(r.folder), "reason": r.failure} for r in board.failed],
            "unfinished": [str(path) for path in board.unfinished],
        }
    )


def _row_data(section: Section, row: Row) -> dict[str, Any]:
    estimate = row.estimate
    run = row.answered[0] if row.answered else None
    return {
        "problem": section.title,
        "solver": row.solver,
        "kind": row.kind,
        "error": estimate.mean if estimate else None,
        "error_low": estimate.low if estimate else None,
        "error_high": estimate.high if estimate else None,
        "errors": {str(r.seed): r.error for r in row.runs},
        "seeds_finished": row.finished,
        "seeds_planned": row.planned,
        "train_seconds": row.median("train"),
        "evaluate_seconds": row.median("evaluate"),
        "seconds_to": {plain(t): _or_text(row.seconds_to(t)) for t in section.thresholds},
        "parameters": run.parameters if run else None,
        "device": run.device if run else None,
        "config": row.config,
        "verdict": row.verdict,
    }


def _ladder_data(row: Row) -> list[dict[str, Any]]:
    return [{s.parameter: s.value, "seconds": s.seconds, "error": s.error, "seeds": len(s.runs)} for s in row.steps]


def _or_text(seconds: float) -> float | str:
    return "not reached" if math.isinf(seconds) else seconds


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _remarks(board: Board) -> Iterator[str]:
    """Yield what the tables do not show: misfits, failures, limits, unfinished runs and the conditions."""
    yield from (f"Does not fit: {m.problem} with {m.solver}: {m.reason}" for m in board.misfits)
    failures: dict[tuple[str, str, str], list[Result]] = {}
    for run in board.failed:
        failures.setdefault((run.problem, run.solver, run.failure or ""), []).append(run)
    for (problem, solver, reason), runs in failures.items():
        names = ", ".join(run.folder.name for run in runs)
        yield f"Failed, infinite error: {problem} with {solver}: {reason} ({names})"
    for section in board.sections:
        yield from (f"{MARK.strip()} {section.title} with {line}" for row in section.rows for line in _shortfalls(row))
    yield from (f"Unfinished, not counted: {path}" for path in board.unfinished)
    estimates = [row.estimate for section in board.sections for row in section.rows]
    if any(e and math.isfinite(e.mean) and not e.bounded for e in estimates):
        yield "One seed of a random method gives no interval; where such a row leads, the problem is undecided"
    origins = _origins(board)
    shared = [f"{name} {values[0]}" for name, values in origins.items() if len(values) == 1]
    differing = [f"{name} ({', '.join(values)})" for name, values in origins.items() if len(values) > 1]
    if shared:
        yield f"All runs with {', '.join(shared)}"
    if differing:
        yield f"Runs differ in: {', '.join(differing)}"
    if board.conditions:
        given = ", ".join(f"{k} {v}" for k, v in board.conditions.items() if v is not None)
        yield f"Latest call of sciml bench: {given}"


def _shortfalls(row: Row) -> Iterator[str]:
    """Yield in what the answers of a row fall short of what was asked for."""
    said = [caveat for run in row.answered for caveat in run.caveats]
    for caveat in sorted(set(said)):
        yield f"{row.solver}: {caveat} in {said.count(caveat)} of {row.planned} seed{'s' * (row.planned != 1)}"


def _origins(board: Board) -> dict[str, list[str]]:
    """Return the threads, processors and commits of all runs, as far as they are known."""
    found = {
        "threads": {str(r.threads) for r in board.runs if r.threads is not None},
        "processor": {r.processor for r in board.runs if r.processor is not None},
        "commit": {
            f"{r.commit[:10]} with changes" if r.dirty else r.commit[:10] for r in board.runs if r.commit is not None
        },
    }
    return {name: sorted(values) for name, values in found.items()}


def _error(row: Row) -> str:
    return _interval(row) + (MARK if any(run.caveats for run in row.answered) else "")


def _interval(row: Row) -> str:
    estimate = row.estimate
    if estimate is None:
        return "unfinished"
    if math.isinf(estimate.mean):
        return "inf"
    mean = f"≤ {FLOOR:.1e}" if estimate.mean <= FLOOR * (1 + 1e-9) else f"{estimate.mean:.1e}"
    if row.deterministic:
        return mean
    if estimate.count == 1:
        return f"{mean} [one seed]"
    return f"{mean} [{estimate.low:.1e}, {estimate.high:.1e}]"


def _reached(row: Row, threshold: float) -> str:
    seconds = row.seconds_to(threshold)
    return "not reached" if math.isinf(seconds) else seconds_text(seconds)


def _stem(title: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in title)


def _escape(text: str) -> str:
    for mark, safe in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("\n", " "), ("_", "\\_"), ("*", "\\*")):
        text = text.replace(mark, safe)
    return text
