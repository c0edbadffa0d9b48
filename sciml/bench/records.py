"""Finished runs as a benchmark reads them: from their folders alone."""

import contextlib
import csv
import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sciml.bench.cells import Entry, as_text, fingerprint
from sciml.configuration.compose import read_config
from sciml.errors import UserError
from sciml.registry import find
from sciml.runs.caveats import caveats
from sciml.runs.folder import CONFIG, METRICS, PROVENANCE, read_metrics, write_json


@dataclass(frozen=True)
class Result:
    """A run that came to an end.

    Args:
        folder: its run folder.
        problem: name of the problem.
        solver: name of the solver.
        kind: classical, neural, peer or trivial.
        deterministic: whether the seed makes no difference.
        thresholds: errors to which seconds are counted.
        seed: its seed.
        question: the problem's parameters as text.
        config: hash of the configuration, the seed left out.
        ended: when it ended, in seconds since 1970.
        score: the name of the primary score.
        error: the primary score; infinite where the run failed.
        failure: why it failed, else None.
        stop_reason: why it ended.
        train: seconds of training or solving.
        evaluate: seconds of evaluating the answer where it is scored.
        whole: seconds from the call of the solver to the evaluated answer.
        caveats: in what the answer falls short of what was asked for.
        parameters: number of trained parameters, None where there are none.
        device: what it ran on.
        threads: of PyTorch; None where not known, as the next.
        processor: model and number of cores.
        commit: of the code.
        dirty: whether the code differed from its commit.
        curve: (seconds of training, error) as they were followed, and the end.
    """

    folder: Path
    problem: str
    solver: str
    kind: str
    deterministic: bool
    thresholds: tuple[float, ...]
    seed: int
    question: str
    config: str
    ended: float
    score: str
    error: float
    failure: str | None
    stop_reason: str
    train: float
    evaluate: float
    whole: float
    caveats: tuple[str, ...]
    parameters: int | None
    device: str
    threads: int | None
    processor: str | None
    commit: str | None
    dirty: bool | None
    curve: tuple[tuple[float, float], ...]

    @property
    def seconds(self) -> float:
        """Seconds until the answer is at hand: training or solving, and one evaluation."""
        return self.train + self.evaluate


def is_run_folder(folder: Path) -> bool:
    """Return whether a run, finished or not, is in ``folder``."""
    return (folder / METRICS).exists() or (folder / CONFIG).exists()


def is_complete(folder: Path) -> bool:
    """Return whether a run in ``folder`` came to a good end."""
    result = read_result(folder)
    return result is not None and result.failure is None


def read_result(folder: Path) -> Result | None:
    """Return the run in ``folder``, or None where it is unfinished: interrupted, or without readable metrics.

    Raises:
        UserError: its configuration is not one.
    """
    metrics = _metrics(folder)
    if metrics is None or metrics["status"] == "interrupted":
        return None
    config = dataclasses.asdict(read_config(folder / CONFIG)) if (folder / CONFIG).exists() else None
    train, evaluate, whole = (_number(metrics["seconds"].get(name)) for name in ("train", "evaluate", "whole"))
    error = _number(metrics["errors"].get(metrics["primary"]))
    answered = metrics["status"] == "ok" and error >= 0
    reason = str(metrics["stop_reason"] or "")
    origin = _origin(folder / PROVENANCE)
    notes = metrics.get("notes", {})
    parameters = notes.get("parameters")
    return Result(
        folder=folder,
        problem=metrics["problem"],
        solver=metrics["solver"],
        kind=metrics["kind"],
        deterministic=metrics["deterministic"],
        thresholds=tuple(metrics["thresholds"]),
        seed=metrics["seed"],
        question=as_text(config["problem"]) if config else "",
        config=fingerprint(config) if config else "",
        ended=(folder / METRICS).stat().st_mtime,
        score=metrics["primary"],
        error=error if answered else math.inf,
        failure=None if answered else reason or "the error is not a number",
        stop_reason=reason,
        train=train,
        evaluate=evaluate,
        whole=whole,
        caveats=caveats({"stop_reason": reason, **notes}),
        parameters=None if parameters is None else int(parameters),
        device=origin.get("device", ""),
        threads=origin.get("threads"),
        processor=origin.get("processor"),
        commit=origin.get("git_commit"),
        dirty=origin.get("git_dirty"),
        curve=(*_followed(folder / "history.csv"), (train, error)) if answered else (),
    )


def record_failure(folder: Path, entry: Entry, seed: int, reason: str) -> None:
    """Write the metrics of a run whose process could not."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {
        "status": "failed",
        "problem": entry.problem,
        "solver": entry.solver,
        "kind": entry.kind,
        "deterministic": find("solver", entry.solver).load().deterministic,
        "seed": seed,
        "primary": "",
        "thresholds": find("problem", entry.problem).load().thresholds,
        "errors": {},
        "seconds": {},
        "cpu_seconds": None,
        "stop_reason": reason,
        "notes": {},
    }
    write_json(folder / METRICS, metrics)


def first_reached(curve: tuple[tuple[float, float], ...], threshold: float) -> float:
    """Return the seconds at which the error first fell to the threshold; infinite where it never did."""
    return min((seconds for seconds, error in curve if error <= threshold), default=math.inf)


def _metrics(folder: Path) -> dict[str, Any] | None:
    with contextlib.suppress(UserError):
        return read_metrics(folder)


def _origin(path: Path) -> Mapping[str, Any]:
    try:
        origin = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return origin if isinstance(origin, dict) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _followed(path: Path) -> list[tuple[float, float]]:
    """Return (seconds, error) of the history's rows where the error was evaluated."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r.get("error") and r.get("seconds")]
    points = [(float(r["seconds"]), float(r["error"])) for r in rows]
    return [point for point in points if all(map(math.isfinite, point))]
