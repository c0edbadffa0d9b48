"""Simulations a second of one thread, prior draws included, and the integrator against an adaptive solver.

Run ``python scripts/bench/simulators.py``; seconds are the processor's, medians of five; the last line is JSON.
"""

import json
import statistics
import time

import numpy as np
import torch
from scipy.integrate import solve_ivp

from problems.inference.bernoulli_glm import BernoulliGLM
from problems.inference.galton import Galton
from problems.inference.lotka_volterra import LotkaVolterra
from problems.inference.sir import POPULATION, SIR
from problems.inference.slcp import SLCP
from problems.inference.slcp_distractors import SLCPDistractors
from problems.inference.two_moons import TwoMoons
from sciml.views.simulator import Simulator

REPEATS = 5
CHECKED = 200
TARGETS: dict[type[Simulator], tuple[int, float | None]] = {
    TwoMoons: (1_000_000, 1e6),
    SLCP: (1_000_000, 1e6),
    SIR: (50_000, 2e4),
    LotkaVolterra: (50_000, 2e4),
    Galton: (100_000, None),
    BernoulliGLM: (50_000, None),
    SLCPDistractors: (50_000, None),
}


def speed(problem: Simulator, count: int) -> float:
    """Return simulations a CPU second."""
    seconds = []
    for repeat in range(REPEATS):
        generator = torch.Generator().manual_seed(repeat)
        before = time.process_time()
        problem.joint(count, generator)
        seconds.append(time.process_time() - before)
    return count / statistics.median(seconds)


def disagreement(problem: SIR | LotkaVolterra) -> float:
    """Return the greatest relative difference from DOP853 for the logarithms, over draws of the prior."""
    theta = problem.prior().sample(CHECKED, torch.Generator().manual_seed(1))
    if isinstance(problem, SIR):
        found, times, start = (
            problem.infected(theta)[:, :, None],
            17.0 * np.arange(10),
            (1 - 1 / POPULATION, 1 / POPULATION),
        )
        rates = [(0.0, -contact, -recovery, contact) for contact, recovery in theta.tolist()]
    else:
        found, times, start = problem.populations(theta), 2.1 * np.arange(10), (30.0, 1.0)
        rates = [(a, -b, -c, d) for a, b, c, d in theta.tolist()]
    worst = 0.0
    for values, given in zip(found.numpy(), rates, strict=True):

        def slope(_: float, logs: np.ndarray, given: tuple[float, ...] = given) -> list[float]:
            a, b, c, d = given
            return [a + b * np.exp(logs[1]), c + d * np.exp(logs[0])]

        exact = solve_ivp(slope, (0, times[-1]), np.log(start), "DOP853", times, rtol=1e-12, atol=1e-12).y.T
        worst = max(worst, float(np.abs(values / np.exp(exact[:, -values.shape[1] :]) - 1).max()))
    return worst


def main() -> None:
    """Print the figures."""
    torch.set_num_threads(1)
    figures: dict[str, dict[str, float | bool | None]] = {}
    for kind, (count, target) in TARGETS.items():
        value = speed(kind(), count)
        figures[f"{kind.name} simulations a second"] = {
            "value": value,
            "target": target,
            "met": target is None or value >= target,
        }
    for kind in (SIR, LotkaVolterra):
        value = disagreement(kind())
        figures[f"{kind.name} relative disagreement"] = {"value": value, "target": 1e-6, "met": value <= 1e-6}
    for name, figure in figures.items():
        print(f"{name}: {figure['value']:.3g}")
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
