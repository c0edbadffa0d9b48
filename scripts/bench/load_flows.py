"""Microseconds per load flow of classical solvers, peers and trained networks, beside their errors.

    python scripts/bench/load_flows.py [--case ieee118] [--solvers newton_batch dc ...] [--runs RUN ...]

Every solver answers the same scenarios of none, one and two branches out, in batches of 1, 1 000 and 10 000; a RUN is a
run folder of ``sciml train`` on the same grid, whose network is restored. Peers that take one load flow at a time
include what Python does for each, its admittance matrix and DC start; ``peers_grid.py`` measures a peer's own batches.
Seconds are of the processor, on one thread, the least of three repeats; a batch that would take more than some seconds
is left out. Errors are of ``Grid.score``, against Newton-Raphson, over all scenarios and over those of two branches
out. The last line is JSON.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

import sciml
from problems.grid.grid import Grid
from sciml.registry import find
from sciml.solution import Solution

SOLVERS = ("newton_batch", "dc_newton1", "dc", "fast_decoupled", "newton", "lightsim2grid", "pandapower")
TARGETS = {("ieee118", "newton_batch", 1000): 5.0, ("ieee118", "leapnet_physics", 1000): 8.0}
BATCHES = (1, 1000, 10_000)
PATIENCE = 5.0
"""Seconds beyond which a batch is left out."""
SCORES = ("flow_error", "current_mape90", "flow_error_n2", "current_mape90_n2", "vm_error", "va_error", "mismatch_max")


def microseconds(answer: Callable[[np.ndarray], np.ndarray], points: np.ndarray, batch: int) -> float:
    """Return the processor's microseconds per scenario in batches of a size, the least of three repeats."""
    parts = points[:batch] if batch > 1 else points[:20, None]
    parts = [parts] if batch > 1 else list(parts)
    answer(parts[0])
    found = []
    for _ in range(3):
        start = time.process_time()
        for part in parts:
            answer(part)
        found.append(time.process_time() - start)
    return 1e6 * min(found) / sum(map(len, parts))


def measured(answer: Solution, points: np.ndarray) -> dict[int, float]:
    """Return microseconds per scenario by batch."""
    found: dict[int, float] = {}
    for batch in BATCHES:
        if found and 1e-6 * batch * min(found.values()) > PATIENCE:
            break
        found[batch] = microseconds(answer, points, batch)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", default="ieee118")
    parser.add_argument("--solvers", nargs="*", default=list(SOLVERS))
    parser.add_argument("--runs", nargs="*", type=Path, default=[])
    parser.add_argument("--test", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    problem = Grid(case=options.case, train=3 * BATCHES[-1], test=options.test, train_outages=(0, 1, 2))
    points = np.random.default_rng(0).permutation(problem.scenarios("train"))[: BATCHES[-1]]
    answers = {name: sciml.solve(problem, find("solver", name).load()()) for name in options.solvers}
    answers |= {run.metrics["solver"]: run.solution for run in map(sciml.load, options.runs)}
    print(f"{'solver':16s}" + "".join(f"{f'us at {b}':>12s}" for b in BATCHES) + "".join(f"{s:>18s}" for s in SCORES))
    figures = {}
    for name, answer in answers.items():
        spent, scores = measured(answer, points), problem.score(answer)
        cells = "".join(f"{spent[b]:12.1f}" if b in spent else f"{'-':>12s}" for b in BATCHES)
        print(f"{name:16s}{cells}" + "".join(f"{scores[s]:18.2e}" for s in SCORES), flush=True)
        for batch, value in spent.items():
            target = TARGETS.get((options.case, name, batch))
            met = None if target is None else value <= target
            figures[f"{name}_us_at_{batch}"] = {"value": value, "target": target, "met": met}
        figures |= {f"{name}_{s}": {"value": scores[s], "target": None, "met": None} for s in SCORES}
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
