"""What a learnt simulator loses: inference by rejection on its data, beside as many of the simulator, and as few.

Run ``python scripts/bench/surrogates.py [tasks] [--simulations 1000] [--seeds 3] [--steps 3000]``. For each task and
model: the accuracy of two-sample tests at parameters never trained on, the C2ST of the posterior of the first
observation, and how much more that is than rejection on as many data of the simulator gets. Seconds are the
processor's; the last line is JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch

import sciml
from sciml.registry import entries
from sciml.solver import Solver
from solvers.inference.rejection_abc import RejectionABC
from solvers.inference.surrogate import Surrogate

MULTIPLE = 100
"""Data for inference, by simulations to learn from."""


def solved(problem: Any, solver: Solver[Any], seed: int) -> tuple[Mapping[str, float], float]:
    """Return the score and notes of a solve, and its CPU seconds."""
    before = time.process_time()
    solution = sciml.solve(problem, solver, seed=seed)
    solution(problem.observed()[None])  # draws the data that it answers by
    seconds = time.process_time() - before
    notes = {name: value for name, value in solution.notes.items() if isinstance(value, float)}
    return notes | problem.score(solution, seed), seconds


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", default=["two_moons", "slcp", "gaussian_mixture", "heat_source"])
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--samples", type=int, default=2000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    few, many, seeds = asked.simulations, MULTIPLE * asked.simulations, range(asked.seeds)
    figures = {}
    for task in asked.tasks:
        problem = entries("problem")[task].load()(samples=asked.samples)
        c2st = {}
        solvers: dict[str, Solver[Any]] = {
            "simulator, as few": RejectionABC(few),
            "simulator, as many": RejectionABC(many),
            "flow": Surrogate(few, "flow", steps=asked.steps, multiple=MULTIPLE),
            "gan": Surrogate(few, "gan", steps=asked.steps, multiple=MULTIPLE),
        }
        for name, solver in solvers.items():
            found, seconds = zip(*(solved(problem, solver, seed) for seed in seeds), strict=True)
            c2st[name] = [one["c2st"] for one in found]
            told = [round(one.get("two_sample", float("nan")), 3) for one in found]
            worst = [round(one.get("two_sample_rejected", float("nan")), 3) for one in found]
            print(task, name, "c2st", c2st[name], "two_sample", told, "rejected", worst, "s", seconds, flush=True)
            figures[f"{task} {name} C2ST"] = {"value": statistics.mean(c2st[name]), "target": None, "met": None}
        for model in ("flow", "gan"):
            lost = statistics.mean(c2st[model]) - statistics.mean(c2st["simulator, as many"])
            figures[f"{task} C2ST lost by {model}"] = {"value": lost, "target": None, "met": None}
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
