"""Seconds per optimiser step of a training by Lightning, in multiples of a bare torch loop.

    OMP_NUM_THREADS=1 python scripts/bench/lightning_overhead.py

Both take the same Adam steps on the same tiny network, losses and freshly drawn points. The bare loop does
nothing else. The training does all it does by default: it looks for stops, for losses and gradients that are
not finite, and, in the second figure, writes the history and checkpoints. The two alternate in one process;
each ratio is the median over pairs.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from sciml.neural import NeuralSolver, Phase
from sciml.parameters import Count
from sciml.problem import Problem, Table, Variable
from sciml.solution import Solution
from sciml.solver import Context
from sciml.training.settings import Training

TARGET = 1.05


class Plane(Problem):
    """A function of two variables, which no error is followed for."""

    primary = "none"

    @property
    def inputs(self) -> tuple[Variable, ...]:
        return (Variable("x"), Variable("y"))

    @property
    def outputs(self) -> tuple[Variable, ...]:
        return (Variable("u"),)

    def score(self, solution: Solution, seed: int = 0) -> dict[str, float]:
        return {}

    def trivial(self) -> Solution:
        return Solution(self, np.zeros_like)

    def table(self, solution: Solution) -> Table:
        return Table({}, {})

    def figures(self, solution: Solution) -> Iterator[tuple[str, Figure]]:
        yield from ()


class Tiny(NeuralSolver[Plane]):
    """Two hidden layers of 16, two loss terms, 64 fresh points a step."""

    needs = Plane

    def __init__(self, steps: Count = 2000) -> None:
        super().__init__()
        self.steps = steps

    def build(self, problem: Plane) -> None:
        shapes = ((2, 16), (16, 16), (16, 1))
        a, b, c = (torch.nn.Linear(*shape, dtype=self.real) for shape in shapes)
        self.network = torch.nn.Sequential(a, torch.nn.Tanh(), b, torch.nn.Tanh(), c)

    def schedule(self) -> tuple[Phase, ...]:
        return (Phase("adam", self.steps),)

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        return {"points": torch.rand(64, 2, generator=generator, dtype=self.real)}

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        residual = self.network(batch["points"]) - batch["points"].prod(1, keepdim=True)
        return {"square": residual.square().mean(), "edge": residual[:8].square().mean()}

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: self.network(torch.as_tensor(x, dtype=self.real)).detach().double().numpy()


def bare(steps: int) -> float:
    """Return seconds per step of a loop that does nothing but train."""
    module = Tiny(steps).fresh(Plane(), 0, torch.float64)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)
    began = time.perf_counter()
    for _ in range(steps):
        optimizer.zero_grad()
        total = torch.stack(list(module.losses(module.sample(generator)).values())).sum()
        total.backward()
        optimizer.step()
    return (time.perf_counter() - began) / steps


def trained(steps: int, folder: Path | None) -> float:
    """Return seconds per step of a training, from its own clock: what twice the steps take more."""
    context = Context(training=Training(accelerator="cpu", precision="64"), folder=folder)
    short, long = (float(Tiny(n).solve(Plane(), context).notes["seconds"]) for n in (steps, 2 * steps))
    return (long - short) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="steps of each training")
    parser.add_argument("--repeats", type=int, default=11, help="pairs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        for figure, folder in (("lightning_overhead", None), ("lightning_overhead_with_files", Path(name))):
            trained(200, folder)
            pairs = [(trained(arguments.steps, folder), bare(arguments.steps)) for _ in range(arguments.repeats)]
            ratio = statistics.median(by_lightning / by_hand for by_lightning, by_hand in pairs)
            seconds = statistics.median(by_hand for _, by_hand in pairs)
            print(f"{figure}: {ratio:.3f} times the bare loop's {seconds * 1e6:.0f} µs a step", flush=True)
            figures[figure] = {"value": round(ratio, 4), "target": TARGET, "met": ratio <= TARGET}
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
