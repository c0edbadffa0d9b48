"""Run folders, the one product of a run: what lies where, and how a run is read again.

``runs/<problem>/<solver>/<stamp>-<config hash>/`` holds

- ``config.yaml``: the resolved configuration;
- ``provenance.json``: versions, commit, machine, threads, seed, precision, wall and CPU seconds; where
  ``resumed`` is true those seconds are of the last process alone, unlike ``seconds.train`` below;
- ``metrics.json``, written last, so that a folder without it is unfinished:
  ``status`` (ok, failed, interrupted), ``problem``, ``solver``, ``kind``, ``deterministic``, ``seed``,
  ``config_hash``, ``thresholds`` (errors to which a benchmark counts seconds),
  ``errors`` (every score by name), ``primary`` (the name of the score that tables show),
  ``seconds`` (``setup``: imports and the reference; ``train``; ``evaluate``; ``whole``: from the call of the
  solver to the evaluated answer, of the last process alone), ``cpu_seconds``, ``stop_reason``,
  ``notes`` (what the solver says of itself), ``warnings`` (what is odd about the problem's definition);
- ``solution.h5``, ``history.csv``, ``checkpoints/``, ``figures/``, ``log.txt``.
"""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from sciml.configuration.compose import Config, read_config, require_trusted
from sciml.errors import UserError
from sciml.files import write_text
from sciml.html import table
from sciml.problem import Problem
from sciml.runs.solution_file import read_state
from sciml.solution import Solution
from sciml.solver import Solver

CONFIG, PROVENANCE, METRICS, SOLUTION = "config.yaml", "provenance.json", "metrics.json", "solution.h5"


@dataclass(frozen=True)
class Run:
    """A run that ended, read from its folder.

    Args:
        folder: where it lies.
        config: its resolved configuration.
        metrics: what ``metrics.json`` holds.
    """

    folder: Path
    config: Config
    metrics: Mapping[str, Any]

    @cached_property
    def _made(self) -> tuple[Problem, Solver[Any]]:
        problem, solver, _ = self.config.make()
        return problem, solver

    @property
    def problem(self) -> Problem:
        return self._made[0]

    @property
    def solver(self) -> Solver[Any]:
        return self._made[1]

    @cached_property
    def solution(self) -> Solution:
        """The solution, restored from its arrays without solving again.

        Raises:
            UserError: the run left no solution, or its file is damaged.
        """
        state = read_state(self.folder / SOLUTION)
        try:
            return self.solver.restore(self.problem, state)
        except (KeyError, ValueError, RuntimeError, IndexError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{self.folder / SOLUTION} does not fit {self.solver.name}: {reason}") from error

    @property
    def figures(self) -> tuple[Path, ...]:
        """The pictures, that of the solution first."""
        return tuple(sorted((self.folder / "figures").glob("*.png"), key=lambda p: (p.stem != "solution", p.stem)))

    def _repr_html_(self) -> str:
        seconds = self.metrics["seconds"]
        rows = {key: self.metrics[key] for key in ("problem", "solver", "kind", "seed", "status", "stop_reason")}
        rows |= (
            self.metrics["errors"]
            | {f"seconds to {key}": value for key, value in seconds.items()}
            | {"folder": self.folder}
        )
        picture = ""
        if self.figures:
            data = base64.b64encode(self.figures[0].read_bytes()).decode()
            picture = f'<img src="data:image/png;base64,{data}" alt="solution">'
        return table(rows) + picture


def load(folder: str | Path, trust: bool = False) -> Run:
    """Read a run: ``run = sciml.load("runs/heat/pinn/...")``, then ``run.solution(points)``.

    Args:
        folder: the run folder.
        trust: whether to run the code of a problem or solver that the run took from a file, not by name.

    Raises:
        UserError: a folder that is no run folder, an unfinished run, or code that is not trusted.
    """
    folder = Path(folder)
    if not (folder / CONFIG).exists():
        raise UserError(f"{folder} is not a run folder; expected {CONFIG} in it")
    config = read_config(folder / CONFIG)
    if not trust:
        require_trusted(config, (), "load(folder, trust=True)")
    metrics = read_metrics(folder)
    if metrics is None:
        raise UserError(f"the run in {folder} is unfinished; continue it with: sciml train resume={folder}")
    return Run(folder, config, metrics)


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """Return what ``metrics.json`` holds, or None of an unfinished run.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / METRICS
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
        wanted = {
            "status",
            "problem",
            "solver",
            "kind",
            "deterministic",
            "seed",
            "primary",
            "thresholds",
            "errors",
            "seconds",
            "stop_reason",
        }
        missing = sorted(wanted - set(metrics))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError):
        raise UserError(f"{path} is not readable JSON; run again") from None
    if missing or not isinstance(metrics, dict):
        raise UserError(f"{path} is not a run's metrics; it lacks {', '.join(missing)}")
    return metrics


def new_folder(config: Config, names: tuple[str, ...], root: Path = Path("runs")) -> Path:
    """Return a folder that does not exist yet, ``runs/<problem>/<solver>/<stamp>-<config hash>``.

    Args:
        names: of the problem and the solver, or of variants.
    """
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    base = root.joinpath(*names, f"{stamp}-{config.hash}")
    folder, count = base, 1
    while folder.exists():
        count += 1
        folder = base.with_name(f"{base.name}-{count}")
    return folder


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write strict JSON; numbers that are not finite become null."""
    write_text(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """Return plain JSON values, with null in the place of NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if value is None or isinstance(value, (str, bool, int)):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
