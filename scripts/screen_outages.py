"""How many overloads of the N-2 outages a solver finds when Newton's method certifies the first of its ranking.

    python scripts/screen_outages.py RUN [RUN ...] [--budget 100 300 1000] [--margin 1.2] [--out 2]

A RUN is a run folder of ``sciml train`` on one grid, with whatever solver. From the grid's nominal state every outage
of two branches is ranked by the greatest share of a limit that the run's solution predicts; the first ``budget`` are
certified by newton_batch. Limits are ``margin`` times the greatest current with none or one branch out. Exact
enumeration, newton_batch on every outage, tells how many overloads there are; its time stands beside, so that what a
ranking saves is seen. Seconds are of the processor, on one thread. The last line is JSON.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

import sciml
from problems.grid.grid import Grid
from sciml.errors import UserError
from sciml.grid.newton_batch import NewtonBatch
from sciml.grid.powergrid import PowerGrid
from sciml.grid.screening import all_outages, certifying, limits, loadings, overloaded, ranked
from sciml.runs.folder import Run


def timed(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """Return what the second of two calls returns, and the processor's seconds."""
    work()
    start = time.process_time()
    return work(), time.process_time() - start


def grid_of(runs: list[Run]) -> PowerGrid:
    """Return the one grid that the runs are of.

    Raises:
        UserError: another problem, several grids, or one that is operated.
    """
    problems = [run.problem for run in runs]
    grids = []
    for problem in problems:
        if not isinstance(problem, Grid) or not problem.is_plain:
            raise UserError(f"expected runs on a grid without limits or failing generators, got {problem!r}")
        grids.append(problem.flow.grid)
    if any(g.inputs != grids[0].inputs or (g.impedance != grids[0].impedance).any() for g in grids):
        raise UserError("the runs are of several grids; name runs of one")
    return grids[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--budget", nargs="+", type=int, default=[100, 300, 1000])
    parser.add_argument("--margin", type=float, default=1.2)
    parser.add_argument("--out", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = [sciml.load(folder) for folder in options.runs]
    grid = grid_of(runs)
    exact = certifying(NewtonBatch(grid))
    limit = limits(grid, exact, options.margin)
    outages = all_outages(grid, options.out)
    truth, seconds = timed(lambda: loadings(grid, exact, outages.inputs, limit))
    bad = overloaded(truth)
    print(
        f"{len(truth)} outages of {options.out} branches ({outages.islanded} more cut a bus off), {bad.sum()} overload"
        f" a branch or have no load flow ({np.isnan(truth).sum()}); exact enumeration {seconds:.3f} s"
    )
    results: dict[str, Any] = {"outages": len(truth), "overloads": int(bad.sum()), "enumeration_seconds": seconds}
    for run in runs:
        found, results[str(run.folder)] = screened(run, grid, outages.inputs, limit, bad, options.budget)
        print(found)
    print(json.dumps(results))


def screened(
    run: Run, grid: PowerGrid, inputs: np.ndarray, limit: np.ndarray, bad: np.ndarray, budgets: list[int]
) -> tuple[str, dict[str, Any]]:
    """Return a line and the figures of one run: overloads among the first of its ranking, and the seconds."""
    predicted, ranking = timed(lambda: loadings(grid, run.solution, inputs, limit))
    order, certified = ranked(predicted), certifying(NewtonBatch(grid))
    figures: dict[str, Any] = {"ranking_seconds": ranking}
    parts = []
    for budget in budgets:
        first = order[:budget]
        loading, certifies = timed(lambda first=first: loadings(grid, certified, inputs[first], limit))
        found = int(overloaded(loading).sum())
        most = min(budget, int(bad.sum()))
        figures[f"first_{budget}"] = {"found": found, "possible": most, "certifying_seconds": certifies}
        parts.append(f"{found} of {most} possible in the first {budget} (certified in {certifies:.3f} s)")
    return f"{run.metrics['solver']:16} ranks in {ranking:.3f} s: {'; '.join(parts)}", figures


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"screen_outages: {error}")
