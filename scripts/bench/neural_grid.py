"""Errors and times of neural load flows after the same training, beside Newton's method, on one thread.

Networks train on loads, generation and set-points of a published grid at the problem's default spread, with no and one
branch out; scored are other scenarios with no, one and two branches out, the last of which none has met. Each network
trains for about the same seconds of the processor (``--seconds``): a few steps are timed, and its schedule gets as many
as fit. ``current`` is the mean over branches, both ends and all scenarios of |I - I_ref| / |I_ref|, of currents above
a milliampere, ``largest`` that over the tenth of the largest currents, both in per cent. Microseconds are those of the
processor for each scenario of a batch of 1000 with two branches out. The hybrid's are those of proposal, Newton
and certificate together; what its notes say of iterations, with and without its proposal, stands beside them.

Run ``python scripts/bench/neural_grid.py [--case ieee118] [--solvers mlp leapnet] [--seconds 60] [--seeds 0 1]``; the
last line is JSON.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

import sciml
from problems.grid.grid import Grid
from sciml.configuration.choices import choose
from sciml.grid.balance import newton
from sciml.grid.newton_batch import NewtonBatch, voltages
from sciml.neural import NeuralSolver
from sciml.problem import Problem
from sciml.registry import find
from sciml.solution import Solution
from sciml.solver import Solver
from sciml.training.settings import Training

SOLVERS = ("dc", "dc_newton1", "newton_batch", "mlp", "leapnet", "leapnet_physics", "hybrid")
TIMED_STEPS, BATCH, REPEATS = 50, 1000, 15
LEAST = 1e-3
BALANCED, UNSEEN = ("gns", "dss"), ("gns_global",)
TARGETS = {"leapnet_physics_current_n2": 0.2, "leapnet_physics_microseconds": 8.0, "leapnet_to_mlp_current_n2": 0.5}
TARGETS |= {f"{name}_iterations": 2.1 for name in BALANCED}
TARGETS |= {f"{name}_{score}_error_to_dc": 1.0 for name in UNSEEN for score in ("vm", "va", "flow")}
CORRELATION = 0.9999


def trained(problem: Problem, solver: NeuralSolver[Any], seed: int, seconds: float) -> tuple[Solution, float]:
    """Return the solution after about so many seconds of the processor, and how many they were."""
    made = type(solver)

    def run(steps: int) -> tuple[Solution, float]:
        start = time.process_time()
        method = made(**{**solver.settings, "steps": steps})
        solution = sciml.solve(problem, method, seed=seed, training=Training(accelerator="cpu", check_every=1_000_000))
        return solution, time.process_time() - start

    run(1)  # makes the scenarios
    once, more = run(1)[1], run(1 + TIMED_STEPS)[1]
    return run(max(1, round(seconds * TIMED_STEPS / (more - once))))


def current_errors(problem: Grid, answer: np.ndarray) -> dict[str, float]:
    """Return the errors of currents in per cent, by number of branches out."""
    known, grid = problem.reference, problem.flow.grid
    status = known.inputs[:, problem.structure]
    found, truth = (grid.currents(voltages(y), status) for y in (answer, known.outputs))
    errors = {}
    for out in problem.test_outages:
        rows = known.outages == out
        live = truth[rows] > LEAST
        i, j = found[rows][live], truth[rows][live]
        share = 100 * np.abs(i - j) / j
        errors[f"current_n{out}"] = float(share.mean())
        errors[f"largest_n{out}"] = float(share[j >= np.quantile(j, 0.9)].mean())
    return errors


def microseconds(function: Callable[[np.ndarray], np.ndarray], points: np.ndarray) -> float:
    """Return the median over repeats of the processor's microseconds for each point."""
    function(points)
    spent = []
    for _ in range(REPEATS):
        start = time.process_time()
        function(points)
        spent.append(time.process_time() - start)
    return 1e6 * statistics.median(spent) / len(points)


def measured(problem: Grid, name: str, seed: int, seconds: float) -> dict[str, float]:
    """Return errors and times of one solver."""
    solver: Solver[Any] = find("solver", name).load()()
    if isinstance(solver, NeuralSolver):
        solution, spent = trained(problem, solver, seed, seconds)
    else:
        limits = Training(accelerator="cpu", max_seconds=seconds, check_every=1_000_000)
        start = time.process_time()
        solution = sciml.solve(problem, solver, seed=seed, training=limits)
        spent = time.process_time() - start
    two_out = problem.reference.inputs[problem.reference.outages == max(problem.test_outages)]
    figures = current_errors(problem, solution(problem.reference.inputs))
    figures |= {"microseconds": microseconds(solution.function, np.resize(two_out, (BATCH, two_out.shape[1])))}
    figures |= {"seconds": spent} | {k: float(v) for k, v in solution.notes.items() if k in ("steps", "parameters")}
    told = "iterations", "certified", "microseconds_"
    return figures | {k: float(v) for k, v in solution.notes.items() if k.startswith(told)}


def balanced(name: str, seed: int, seconds: float) -> dict[str, float]:
    """Return correlation of flows and Newton's iterations from a solver on 14 buses, on unseen loads without outage."""
    problem = Grid(case="ieee14", train=10_000, test=500, train_outages=(0,), test_outages=(0,))
    solution, spent = trained(problem, find("solver", name).load()(), seed, seconds)
    known = problem.reference
    answer = solution(known.inputs)
    flows, truth = (problem.branch_flows(known.inputs, y).ravel() for y in (answer, known.outputs))
    from_it = NewtonBatch(problem.flow.grid).solve(known.inputs, voltages(answer)).iterations
    flat = newton(problem.flow, torch.from_numpy(known.inputs), 1e-8).iterations
    return {
        "correlation": float(np.corrcoef(flows, truth)[0, 1]),
        "iterations": float(from_it.mean()),
        "iterations_flat": float(flat.double().mean()),
        "seconds": spent,
    }


def unseen(name: str, seed: int, seconds: float) -> dict[str, float]:
    """Return errors on 300 buses, and as shares of the DC load flow's, of a solver trained on 14, 30, 57 and 118.

    Names ending in ``_untrained`` are of the same networks before training: what their global solves do alone.
    """
    problem = Grid(**choose("problem", "ieee300_unseen").settings)
    choice = choose("solver", name)
    method = choice.entry.load()(**choice.settings)
    solution, spent = trained(problem, method, seed, seconds)
    untrained = method.fresh(problem, seed, torch.float32).solution(problem)
    dc = problem.score(sciml.solve(problem, find("solver", "dc").load()()))
    found, before = problem.score(solution), problem.score(untrained)
    figures = {"seconds": spent, "steps": float(solution.notes["steps"])}
    for score in ("vm_error", "va_error", "flow_error"):
        figures |= {score: found[score], f"{score}_to_dc": found[score] / dc[score]}
        figures[f"{score}_untrained"] = before[score]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", default="ieee118")
    known = [*SOLVERS, *BALANCED, *UNSEEN]
    parser.add_argument("--solvers", nargs="*", default=known, choices=known)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--train", type=int, default=10_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    problem = Grid(case=options.case, train=options.train, test=500)
    special = {**dict.fromkeys(BALANCED, balanced), **dict.fromkeys(UNSEEN, unseen)}
    values: dict[str, float] = {}
    for name in options.solvers:
        solver = choose("solver", name).entry.load()
        run = special.get(name, partial(measured, problem))
        rows = []
        for seed in options.seeds[:1] if solver.deterministic else options.seeds:
            row = run(name, seed, options.seconds)
            print(f"{name:16} seed {seed}  " + "  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
            rows.append(row)
        values |= {f"{name}_{key}": statistics.median(row[key] for row in rows) for key in rows[0]}
    if {"mlp_current_n2", "leapnet_current_n2"} <= set(values):
        values["leapnet_to_mlp_current_n2"] = values["leapnet_current_n2"] / values["mlp_current_n2"]
    figures: dict[str, dict[str, float | bool]] = {name: {"value": value} for name, value in values.items()}
    for name in TARGETS.keys() & values.keys():
        figures[name] |= {"target": TARGETS[name], "met": values[name] <= TARGETS[name]}
    for name in BALANCED:
        if (key := f"{name}_correlation") in values:
            figures[key] |= {"target": CORRELATION, "met": values[key] >= CORRELATION}
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
