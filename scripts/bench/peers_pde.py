"""Error against seconds of DeepXDE, PINA and our solvers on the same definitions, threads and points of scoring.

Peers run twice where they can: DeepXDE as its own example for the equation sets it up, in single precision and with
its default L-BFGS, and in double precision with ample line searches; PINA in double precision with the same network
and points. Their clock counts training alone, neither the start of their process nor the checks of the error; ours
counts the whole call. DeepXDE has no example of Poisson's equation on a square; its L-shaped one lends its settings,
and where its example of Allen-Cahn builds the conditions into the network, they are trained here.
Settings: examples/pinn_forward/{heat,Burgers,Poisson_Lshape,Allen_Cahn}.py of github.com/lululxvi/deepxde.

Run ``python scripts/bench/peers_pde.py [--problems heat burgers] [--seconds 900] [--threads 2]``; the last line is
JSON: at a peer's best error we should be 30 times faster, and at its last second 1000 times more accurate.
"""

import argparse
import csv
import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping
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

FASTER, CLOSER = 30.0, 1000.0
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
    yield "deepxde, its example", DeepXDE(**example, lbfgs="own"), "32"  # pyright: ignore[reportArgumentType]
    yield "deepxde, double precision", DeepXDE(**example), "64"  # pyright: ignore[reportArgumentType]
    network = {"layers": (example.get("width", 20),) * example.get("depth", 3)}
    points = {name: n for name, n in example.items() if name.endswith("points")}
    yield "pina", PINA(**network, **points), "64"  # pyright: ignore[reportArgumentType]


def ours() -> Iterator[tuple[str, Solver[Any]]]:
    """Yield the title and the solver of each of ours, at its defaults."""
    yield "rfm", RFM()
    yield "pinn", PINN()


def run(title: str, problem: Residual, solver: Solver[Any], precision: str | None, args: argparse.Namespace) -> Run:
    """Solve a problem; a peer's clock is its own, ours counts the whole call."""
    every = 100 if solver.kind == "peer" else 10  # a step of Gauss-Newton is worth many of Adam
    training = Training(
        max_seconds=args.seconds,
        precision=precision,  # pyright: ignore[reportArgumentType]
        accelerator="cpu",
        check_every=every,
    )
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        try:
            solution = sciml.solve(problem, solver, args.seed, training, Path(folder))
        except (SolveError, UserError) as error:
            return Run(title, (), f"failed: {error}")
        whole = time.perf_counter() - began
        rows = followed(Path(folder) / "history.csv")
    error = problem.score(solution, args.seed)[problem.primary]
    trained = float(solution.notes.get("seconds", whole))
    before = 0.0 if solver.kind == "peer" else whole - trained
    curve = [(before + seconds, value) for seconds, value in rows]
    reason = solution.notes.get("stop_reason", "solved")
    return Run(title, (*curve, (before + trained, error)), f"{reason}, {whole:.0f} s with all around it")


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
    print(f"  {one.title:28}{one.best:10.1e}{seconds:>10}{reached}   {one.said}", flush=True)


def compare(problem: str, theirs: Run, mine: list[Run]) -> dict[str, dict[str, float | bool]]:
    """Return how much faster the fastest of ours is at a peer's best error, and how much closer at its last second."""
    if not theirs.curve:
        return {}
    seconds = first_reached(theirs.curve, theirs.best)
    fastest = min(mine, key=lambda r: first_reached(r.curve, theirs.best))
    closest = min(mine, key=lambda r: r.error_at(theirs.curve[-1][0]))
    faster = seconds / first_reached(fastest.curve, theirs.best)
    closer = theirs.best / closest.error_at(theirs.curve[-1][0])
    print(f"  {theirs.title}: {fastest.title} is {faster:.3g} times faster at its best error, ", end="")
    print(f"{closest.title} {closer:.3g} times closer at its last second", flush=True)
    name = f"{problem}, {theirs.title}"
    return {
        f"{name}: times faster at its best error": {"value": faster, "target": FASTER, "met": faster >= FASTER},
        f"{name}: times closer at its last second": {"value": closer, "target": CLOSER, "met": closer >= CLOSER},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--seconds", type=float, default=900.0, help="of training, for each run at most")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sciml.solve(Heat(), PINN(), training=Training(max_steps=2, accelerator="cpu"))  # imports what is imported late
    figures = {}
    with threadpool_limits(args.threads):
        for name in args.problems:
            problem = PROBLEMS[name]()
            problem.prepare()
            heads = "".join(f"{f's to {plain(level)}':>11}" for level in LEVELS)
            print(f"{name}\n  {'':28}{'error':>10}{'seconds':>10}{heads}", flush=True)
            mine, theirs = [], []
            for title, solver in ours():
                mine.append(run(title, problem, solver, None, args))
                show(mine[-1])
            for title, solver, precision in peers(name):
                theirs.append(run(title, problem, solver, precision, args))
                show(theirs[-1])
            for one in theirs:
                figures |= compare(name, one, mine)
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
