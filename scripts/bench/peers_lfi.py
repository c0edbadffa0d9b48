"""C2ST and CPU seconds of the package sbi and of our solvers on the same simulations, threads and observations.

``npe`` and ``nre`` stand beside sbi's NPE and NRE, all at their defaults. C2ST is that of posterior samples, as many
as the reference has. Seconds are the processor's, of all threads, for training and for drawing those samples; neither
imports nor the start of sbi's process count. sbi samples its ratios by Markov chains, which takes longer than to
train them: what training alone takes is printed and in the figures, without a target.

Run ``python scripts/bench/peers_lfi.py [--tasks two_moons slcp gaussian_linear] [--methods npe nre]
[--simulations 1000] [--observations 1] [--seeds 0 1 2] [--samples 10000] [--threads 1]`` with the extra ``peers``; the
last line is JSON. Over all seeds and observations of a task our C2ST should be no greater on average, at half the
seconds. A figure is null, and not met, where one of the runs failed or sbi is not installed.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from threadpoolctl import threadpool_limits

import sciml
from sciml.errors import SolveError, UserError
from sciml.registry import entries
from sciml.solution import Posterior
from sciml.solver import Solver
from sciml.training.settings import Training
from sciml.views.simulator import Simulator
from solvers.inference.npe import NPE
from solvers.inference.nre import NRE
from solvers.inference.sbi import SBI

Figures = dict[str, dict[str, float | bool | None]]
OURS = {"npe": NPE, "nre": NRE}
SHARE = 0.5
"""Of sbi's seconds, that ours may take."""


@dataclass(frozen=True)
class Run:
    """What one solver attained at one observation.

    Args:
        c2st: 0.5 at best.
        training: CPU seconds.
        sampling: CPU seconds.
    """

    c2st: float
    training: float
    sampling: float

    @property
    def seconds(self) -> float:
        """Of training and of sampling."""
        return self.training + self.sampling


def run(problem: Simulator, solver: Solver[Any], seed: int) -> Run | None:
    """Solve a problem and score it; None where that fails, which is printed."""
    began = time.process_time()
    try:
        solution = sciml.solve(problem, solver, seed, Training(accelerator="cpu"))
    except (SolveError, UserError) as error:
        print(f"  {solver.name} seed {seed} failed: {error}", flush=True)
        return None
    assert isinstance(solution, Posterior)
    training, sampling = time.process_time() - began, 0.0
    if solver.kind == "peer":
        training, sampling = (float(solution.notes[f"{work}_seconds"]) for work in ("training", "sampling"))
    else:
        began = time.process_time()
        solution.sample(len(problem.reference()), problem.observed())
        sampling = time.process_time() - began
    found = Run(problem.score(solution, seed)["c2st"], training, sampling)
    said = f"C2ST {found.c2st:.3f}, {training:.1f} s training, {sampling:.1f} s sampling"
    print(f"  {solver.name} {solver.settings} seed {seed}: {said}", flush=True)
    return found


def compare(name: str, theirs: Sequence[Run | None], mine: Sequence[Run | None]) -> Figures:
    """Return the figures of one of our solvers beside sbi's, from runs with the same seeds and observations."""
    pairs = [(a, b) for a, b in zip(theirs, mine, strict=True) if a and b]

    def means(what: str) -> tuple[float, float] | None:
        if len(pairs) < len(theirs):
            return None
        sbi, ours = (statistics.mean(getattr(one, what) for one in side) for side in zip(*pairs, strict=True))
        print(f"{name}: {what} {sbi:.3f} of sbi, {ours:.3f} of ours, means of {len(pairs)}", flush=True)
        return sbi, ours

    figures: Figures = {}
    for what, said, target in (
        ("c2st", "C2ST minus that of sbi", 0.0),
        ("seconds", "CPU seconds over those of sbi", SHARE),
        ("training", "CPU seconds of training over those of sbi", None),
    ):
        found = means(what)
        value = None if found is None else found[1] - found[0] if what == "c2st" else found[1] / found[0]
        met = value is not None and (target is None or value <= target)
        figures[f"{name}: {said}"] = {"value": value, "target": target, "met": met}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["two_moons", "slcp", "gaussian_linear"])
    parser.add_argument("--methods", nargs="+", choices=OURS, default=list(OURS))
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--observations", type=int, nargs="+", default=[1])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--samples", type=int, default=10_000, help="of the reference, and of each posterior")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    figures: Figures = {}
    with threadpool_limits(asked.threads):
        problems = {
            task: [entries("problem")[task].load()(observation=k, samples=asked.samples) for k in asked.observations]
            for task in asked.tasks
        }
        for solver in (NPE(simulations=100), NRE(simulations=100)):  # imports what is imported late
            sciml.solve(problems[asked.tasks[0]][0], solver, training=Training(max_steps=2, accelerator="cpu"))
        for task, asked_of in problems.items():
            for method in asked.methods:
                print(f"{task}, {method}", flush=True)
                peer = SBI(simulations=asked.simulations, method=method, samples=asked.samples)
                runs = [(p, s) for p in asked_of for s in asked.seeds]
                theirs = [run(p, peer, s) for p, s in runs]
                mine = [run(p, OURS[method](simulations=asked.simulations), s) for p, s in runs]
                figures |= compare(f"{task}, {method}", theirs, mine)
    print(json.dumps({"figures": figures}, allow_nan=False))


if __name__ == "__main__":
    main()
