"""C2ST of `auto` at a thousand simulations beside the best published, and errors of ratios mined from a Galton board.

Run ``python scripts/bench/posteriors.py [tasks] [--observations 1 2] [--samples 10000] [--set rounds=2]``; the task
galton stands for the ratios. Seconds are the processor's, of one thread; the last line is JSON.
"""

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
import torch

import sciml
from problems.inference.galton import Galton
from sciml.registry import entries
from sciml.solution import Posterior
from solvers.inference.auto import Auto
from solvers.inference.gold import Gold

PUBLISHED = {
    "two_moons": 0.643,
    "slcp": 0.921,
    "slcp_distractors": 0.978,
    "gaussian_linear": 0.628,
    "gaussian_linear_uniform": 0.631,
    "gaussian_mixture": 0.669,
    "bernoulli_glm": 0.634,
    "bernoulli_glm_raw": 0.870,
    "sir": 0.637,
    "lotka_volterra": 0.909,
}
"""The best mean over ten observations at a thousand simulations, J.-M. Lueckmann et al., 2021, arXiv 2101.04653."""
ALICES = {1_000: 5e-3, 10_000: 5e-4}
LOSSES = ("carl", "rolr", "cascal", "rascal", "scandal", "alice", "alices", "sally")
HYPOTHESES = torch.tensor([[-0.8], [-0.6]], dtype=torch.float64)


def distances(
    task: str, observations: list[int], samples: int, settings: dict[str, int], seed: int
) -> tuple[float, float]:
    """Return the mean C2ST over observations and the CPU seconds of a solve."""
    arguments: dict[str, Any] = {"simulations": 1000, **settings}
    found, seconds, method = [], [], Auto(**arguments)
    solved: Posterior | None = None
    for number in observations:
        problem = entries("problem")[task].load()(observation=number, samples=samples)
        if solved is None or method.emulate or method.rounds > 1:
            before = time.process_time()
            solved = sciml.solve(problem, method, seed=seed)  # pyright: ignore
            seconds.append(time.process_time() - before)
        assert solved is not None
        score = problem.score(solved)
        found.append(score["c2st"])
        print(task, number, {k: round(v, 4) for k, v in score.items()}, dict(solved.notes), flush=True)
    return statistics.mean(found), statistics.mean(seconds)


def ratio_error(simulations: int, loss: str, seed: int) -> float:
    """Return the mean of (log r̂ - log r)² between the paper's hypotheses, over data of both, an exact expectation."""
    problem = Galton()
    posterior = sciml.solve(problem, Gold(simulations, loss), seed=seed)  # pyright: ignore
    assert isinstance(posterior, Posterior)
    chances = problem.slots(HYPOTHESES)
    total = 0.0
    for slot in np.flatnonzero(chances.sum(dim=0).numpy() > 0):
        one, other = posterior.log_prob(HYPOTHESES.numpy(), [float(slot)])
        exact = float((chances[0, slot] / chances[1, slot]).log())
        total += float(chances[:, slot].mean()) * (one - other - exact) ** 2
    return float(total)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", default=[*PUBLISHED, "galton"])
    parser.add_argument("--observations", type=int, nargs="+", default=list(range(1, 11)))
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the posteriors")
    parser.add_argument("--losses", nargs="+", default=LOSSES, help="of the ratios")
    parser.add_argument("--seeds", type=int, default=3, help="of the ratios")
    parser.add_argument("--set", nargs="*", default=[], help="arguments of auto, whole numbers")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    settings = {name: int(value) for name, value in (word.split("=") for word in asked.set)}
    figures: dict[str, dict[str, float | bool | None]] = {}
    for task in asked.tasks:
        if task == "galton":
            for simulations, target in ALICES.items():
                for loss in asked.losses:
                    errors = [ratio_error(simulations, loss, seed) for seed in range(asked.seeds)]
                    value, wanted = statistics.median(errors), target if loss == "alices" else None
                    print(task, simulations, loss, errors, flush=True)
                    name = f"{loss} squared error of log r at {simulations}"
                    figures[name] = {"value": value, "target": wanted, "met": wanted is None or value <= wanted}
            continue
        value, seconds = distances(task, asked.observations, asked.samples, settings, asked.seed)
        figures[f"{task} C2ST"] = {"value": value, "target": PUBLISHED[task], "met": value < PUBLISHED[task]}
        figures[f"{task} CPU seconds"] = {"value": seconds, "target": 60.0, "met": seconds <= 60}
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
