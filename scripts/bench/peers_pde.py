"""Error against seconds of DeepXDE, PINA and our solvers on the same definitions, threads and points of scoring.

DeepXDE runs twice: with the settings of its example - network, numbers of points, steps, single precision, its default
L-BFGS - and in double precision with ample line searches. PINA runs in double precision with the same network, points
and steps. The clock of peers counts training alone, neither the start of their process nor the checks of the error;
ours counts the whole call but for these checks. Ours have their defaults, and may train as long as the peers; a solver
with a ladder runs at each of its steps too, as one who asks for less waits less. Settings are of
examples/pinn_forward/{heat,Burgers,Poisson_Lshape,Allen_Cahn}.py of github.com/lululxvi/deepxde, the problems are ours.
They differ from the examples:

- all: points are of a scrambled Sobol sequence, and their number is for each condition, not for all together;
- heat: κ is 0.1, the example has 0.4;
- burgers: time ends at 1, in the example at 0.99;
- poisson_2d: no example has this problem; that on an L-shaped domain, with a constant right-hand side and weights
  drawn by Glorot's uniform rule instead of the normal one, lends its settings;
- allen_cahn: ν is 1e-4 and initial and periodic conditions are trained; the example has 1e-3 and a network that
  fulfils the initial and the boundary values by construction.

``--seconds`` caps the training of each run; where it is shorter than a peer's schedule, the cap falls into its phase of
Adam, before L-BFGS, and the line of that run says ``max_seconds``.

Run ``python scripts/bench/peers_pde.py [--problems heat burgers] [--peers pina] [--seeds 0 1 2] [--seconds 900]
[--threads 2]``; the last line is JSON with two figures for each of our solvers and each peer, medians over the seeds:
at a peer's best error we should be 30 times faster (0 where we never come so close), and at its last second 1000 times
more accurate (0 where we have no answer yet). A figure is null, and not met, where one of the runs failed or a peer is
not installed.
"""

import argparse
import csv
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

import sciml
from problems.pde.allen_cahn import AllenCahn
from problems.pde.burgers import Burgers
from problems.pde.heat import Heat
from problems.pde.poisson_2d import Poisson2D
from sciml.bench.numbers import plain
from sciml.bench.records import first_reached
from sciml.errors import SolveError, UserError
from sciml.solver import Solver
from sciml.training.settings import Training
from sciml.views.residual import Residual
from solvers.pde.deepxde import DeepXDE
from solvers.pde.pina import PINA
from solvers.pde.pinn import PINN
from solvers.pde.rfm import RFM

Figures = dict[str, dict[str, float | bool | None]]
FASTER, CLOSER = 30.0, 1000.0
ROUNDING = sys.float_info.epsilon
"""Errors below count as rounding."""
LEVELS = (1e-2, 1e-3, 1e-4, 1e-6, 1e-8)
PROBLEMS: Mapping[str, type[Residual]] = {
    "heat": Heat,
    "burgers": Burgers,
    "poisson_2d": Poisson2D,
    "allen_cahn": AllenCahn,
}
EXAMPLES: Mapping[str, Mapping[str, int]] = {
    "heat": {"adam_steps": 20_000},
    "burgers": {"adam_steps": 15_000},
    "poisson_2d": {"width": 50, "depth": 4, "points": 1200, "boundary_points": 120, "adam_steps": 50_000},
    "allen_cahn": {"points": 8000, "initial_points": 800, "boundary_points": 400, "adam_steps": 40_000},
}
"""What DeepXDE's examples set besides the defaults of our solver ``deepxde``."""


@dataclass(frozen=True)
class Run:
    """How a solver came to its answer.

    Args:
        title: what ran.
        curve: (seconds, error) as they were followed, the end last; empty where it failed.
        said: the notes of the solver, or why it failed.
    """

    title: str
    curve: tuple[tuple[float, float], ...]
    said: str

    @property
    def best(self) -> float:
        """The least error; infinite where it failed."""
        return min((error for _, error in self.curve), default=math.inf)

    def error_at(self, seconds: float) -> float:
        """Return the least error until then."""
        return min((error for moment, error in self.curve if moment <= seconds), default=math.inf)


def peers(problem: str) -> Iterator[tuple[str, Solver[Any], str]]:
    """Yield the title, the solver and the precision of each peer."""
    example = EXAMPLES[problem]
    made = DeepXDE(**example, lbfgs="own")  # pyright: ignore[reportArgumentType]
    yield "deepxde, settings of its example", made, "32"
    yield "deepxde, double precision", DeepXDE(**example), "64"  # pyright: ignore[reportArgumentType]
    shared = ("points", "initial_points", "boundary_points", "adam_steps", "learning_rate", "lbfgs_steps")
    layers = (made.settings["width"],) * made.settings["depth"]
    yield "pina", PINA(layers, **{name: made.settings[name] for name in shared}), "64"


def ours() -> Iterator[tuple[str, Sequence[Solver[Any]]]]:
    """Yield the title of each of ours, and the solver at its defaults and at the steps of its ladder."""
    yield "rfm", [RFM(), *(RFM(tolerance=tolerance) for tolerance in RFM.ladder["tolerance"])]
    yield "pinn", [PINN(steps=100_000)]  # time ends its training, as it does a peer's


def run(title: str, problem: Residual, solver: Solver[Any], precision: str | None, seed: int, limit: float) -> Run:
    """Solve a problem within a limit of seconds; a peer's clock is its own, ours counts all but checks of the error."""
    every = 100 if solver.kind == "peer" else 10  # a step of Gauss-Newton is worth many of Adam
    training = Training(
        max_seconds=limit,
        precision=precision,  # pyright: ignore[reportArgumentType]
        accelerator="cpu",
        check_every=every,
    )
    print(f"{problem.name}: {title}, seed {seed} ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        try:
            solution = sciml.solve(problem, solver, seed, training, Path(folder))
        except (SolveError, UserError) as error:
            return Run(title, (), f"failed: {error}")
        whole = time.perf_counter() - began
        rows = followed(Path(folder) / "history.csv")
    began = time.perf_counter()
    problem.monitor(solution)
    checking = len(rows) * (time.perf_counter() - began)
    error = problem.score(solution, seed)[problem.primary]
    if not math.isfinite(error):
        return Run(title, (), f"failed: its error is {error}")
    trained = float(solution.notes.get("seconds", whole))
    before = 0.0 if solver.kind == "peer" else max(0.0, whole - trained - checking)
    curve = [(before + seconds, value) for seconds, value in rows if math.isfinite(value)]
    reason = solution.notes.get("stop_reason", "solved")
    return Run(title, (*curve, (before + trained, error)), f"{reason}, {whole:.0f} s with all around it")


def together(runs: Sequence[Run]) -> Run:
    """Return the runs of one solver at several settings as one, each with its own clock, saying what the first did."""
    whole = all(one.curve for one in runs)
    curve = tuple(sorted(point for one in runs for point in one.curve)) if whole else ()
    return Run(runs[0].title, curve, next((one.said for one in runs if not one.curve), runs[0].said))


def followed(path: Path) -> list[tuple[float, float]]:
    """Return (seconds, error) of a history's rows where the error was evaluated."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [(float(row["seconds"]), float(row["error"])) for row in csv.DictReader(file) if row.get("error")]


def show(one: Run) -> None:
    """Print a run: its best error, its seconds, and the seconds to each level."""
    levels = [first_reached(one.curve, level) for level in LEVELS]
    reached = "".join(f"{'-' if math.isinf(s) else f'{s:.2f}':>11}" for s in levels)
    seconds = f"{one.curve[-1][0]:.1f}" if one.curve else "-"
    print(f"  {one.title:34}{one.best:10.1e}{seconds:>10}{reached}   {one.said}", flush=True)


def ratios(theirs: Run, mine: Run) -> tuple[float, float] | None:
    """Return how many times faster ours is at a peer's best error, and closer at its last second; None for failures."""
    if not (theirs.curve and mine.curve):
        return None
    faster = first_reached(theirs.curve, theirs.best) / first_reached(mine.curve, theirs.best)
    closer = max(theirs.best, ROUNDING) / max(mine.error_at(theirs.curve[-1][0]), ROUNDING)
    return faster, closer


def compare(problem: str, theirs: Sequence[Run], mine: Sequence[Run]) -> Figures:
    """Return the figures of one of our solvers and one peer: medians over seeds, null where a run failed.

    Args:
        problem: its name.
        theirs: runs of a peer, one for each seed.
        mine: runs of our solver with the same seeds.
    """
    pairs = [ratios(a, b) for a, b in zip(theirs, mine, strict=True)]
    whole = [pair for pair in pairs if pair is not None]
    faster, closer = map(statistics.median, zip(*whole, strict=True)) if len(whole) == len(pairs) else (None, None)
    name = f"{problem}, {mine[0].title} beside {theirs[0].title}"
    figures: Figures = {}
    for said, value, target in (
        ("times faster at its best error", faster, FASTER),
        ("times closer at its last second", closer, CLOSER),
    ):
        figures[f"{name}: {said}"] = {"value": value, "target": target, "met": value is not None and value >= target}
        print(f"  {name}: {'failed' if value is None else f'{value:.3g}'} {said}", flush=True)
    return figures


def side_by_side(name: str, chosen: Sequence[str], seeds: Sequence[int], limit: float) -> Figures:
    """Run our solvers and the peers chosen on one problem; return the figures of each of ours with each peer."""
    problem = PROBLEMS[name]()
    problem.prepare()
    heads = "".join(f"{f's to {plain(level)}':>11}" for level in LEVELS)
    print(f"{name}\n  {'':34}{'error':>10}{'seconds':>10}{heads}", flush=True)

    def of(title: str, solvers: Sequence[Solver[Any]], precision: str | None) -> list[Run]:
        runs = []
        for seed in seeds:
            tried = [run(title, problem, solver, precision, seed, limit) for solver in solvers]
            runs.append(together(tried))
            show(runs[-1])
        return runs

    mine = [of(title, solvers, None) for title, solvers in ours()]
    figures: Figures = {}
    for title, solver, precision in peers(name):
        if title not in chosen:
            continue
        theirs = of(title, [solver], precision)
        for runs in mine:
            figures |= compare(name, theirs, runs)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    titles = [title for title, *_ in peers("heat")]
    parser.add_argument("--peers", nargs="+", choices=titles, default=titles)
    parser.add_argument("--seconds", type=float, default=900.0, help="of training, for each run at most")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sciml.solve(Heat(), PINN(), training=Training(max_steps=2, accelerator="cpu"))  # imports what is imported late
    figures: Figures = {}
    with threadpool_limits(args.threads):
        for name in args.problems:
            figures |= side_by_side(name, args.peers, args.seeds, args.seconds)
    print(json.dumps({"figures": figures}, allow_nan=False))


if __name__ == "__main__":
    main()
