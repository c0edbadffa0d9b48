"""Kill trainings at random moments, resume them, and compare the end with that of one that was never killed.

    python scripts/kill_resume.py --kills 20

Adam and then L-BFGS fit a small network, in float32 and in float64 by turns. The training runs in a process
of its own, which gets SIGKILL at a random moment (also while it starts, writes a checkpoint, or ends) and is
started again with ``resume`` until it ends by itself. The networks, the optimisers' states, the counters and
every row of the history, its column of seconds left out, must then have the same SHA-256 as after an
uninterrupted training.
"""

import argparse
import csv
import hashlib
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.figure import Figure

from sciml.neural import NeuralSolver, Phase
from sciml.problem import Problem, Table, Variable
from sciml.solution import Solution
from sciml.solver import Context
from sciml.training.checkpoint import last_checkpoint, read_checkpoint
from sciml.training.settings import Training

TIMED = {"seconds", "history"}
"""What two trainings alike need not share: the clock, and the length of a file that has the clock in it."""


class Wave(Problem):
    """The curve y = sin 3x on [-1, 1]."""

    primary = "rms"

    @property
    def inputs(self) -> tuple[Variable, ...]:
        return (Variable("x"),)

    @property
    def outputs(self) -> tuple[Variable, ...]:
        return (Variable("y"),)

    def score(self, solution: Solution, seed: int = 0) -> dict[str, float]:
        x = np.linspace(-1, 1, 50)[:, None]
        return {"rms": float(np.sqrt(np.mean((solution(x) - np.sin(3 * x)) ** 2)))}

    def monitor(self, solution: Solution) -> float:
        return self.score(solution)["rms"]

    def trivial(self) -> Solution:
        return Solution(self, np.zeros_like)

    def table(self, solution: Solution) -> Table:
        return Table({}, {})

    def figures(self, solution: Solution) -> Iterator[tuple[str, Figure]]:
        yield from ()


class Regression(NeuralSolver[Wave]):
    """A small network fitted to points drawn anew every third step, and then to fixed ones."""

    needs = Wave
    resample_every = 3

    def build(self, problem: Wave) -> None:
        layers = (
            torch.nn.Linear(1, 16, dtype=self.real),
            torch.nn.Tanh(),
            torch.nn.Linear(16, 1, dtype=self.real),
        )
        self.network = torch.nn.Sequential(*layers)

    def schedule(self) -> tuple[Phase, ...]:
        return Phase("adam", 1000, 1e-2, decay=0.1), Phase("lbfgs", 500)

    def sample(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {"x": 2 * torch.rand(64, 1, generator=generator, dtype=self.real) - 1}

    def losses(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"fit": (self.network(batch["x"]) - torch.sin(3 * batch["x"])).square().mean()}

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: self.network(torch.as_tensor(x, dtype=self.real)).detach().double().numpy()


def train(folder: Path, precision: Literal["32", "64"]) -> None:
    torch.set_num_threads(1)
    training = Training(accelerator="cpu", precision=precision, check_every=10, checkpoint_every=20)
    Regression().solve(Wave(), Context(seed=3, training=training, folder=folder, resume=True))


def digest(folder: Path) -> str:
    """Return the SHA-256 of all that a training leaves behind, but for its clock."""
    hashed = hashlib.sha256()
    checkpoint = read_checkpoint(last_checkpoint(folder))
    for part in ("state_dict", "optimizer_states", "callbacks", "notes"):
        _feed(hashed, checkpoint[part])
    with (folder / "history.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            _feed(hashed, row)
    return hashed.hexdigest()


def _feed(hashed: Any, value: Any) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key not in TIMED:
                hashed.update(repr(key).encode())
                _feed(hashed, item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _feed(hashed, item)
    elif isinstance(value, torch.Tensor):
        hashed.update(str(value.dtype).encode() + value.contiguous().numpy().tobytes())
    else:
        hashed.update(repr(value).encode())


def run_killed(folder: Path, precision: Literal["32", "64"], span: float, moments: random.Random) -> int:
    """Train in a process that is killed after random times below ``span``, and return how often it was."""
    kills = 0
    while True:
        process = multiprocessing.get_context("fork").Process(target=train, args=(folder, precision))
        process.start()
        process.join(moments.uniform(0, span))
        if process.is_alive():
            process.kill()
            process.join()
        if process.exitcode == 0:
            return kills
        if process.exitcode != -9:
            raise SystemExit(f"a training ended with exit code {process.exitcode}, not by a kill")
        kills += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="kills in all, at least")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        scratch, whole, spans = Path(name), {}, {}
        for precision in ("32", "64"):
            began = time.perf_counter()
            if run_killed(scratch / precision, precision, 600, moments):
                raise SystemExit("the reference took longer than expected")
            spans[precision] = time.perf_counter() - began
            whole[precision] = digest(scratch / precision)
        kills = same = runs = 0
        while kills < arguments.kills or runs < 2:
            precision = ("32", "64")[runs % 2]
            folder = scratch / f"run{runs}"
            more = run_killed(folder, precision, 0.6 * spans[precision], moments)
            alike = digest(folder) == whole[precision]
            end = read_checkpoint(last_checkpoint(folder))["notes"]
            told = f"{end['stop_reason']} at step {end['steps']:.0f} of Adam and L-BFGS"
            print(
                f"float{precision}: {more} kills, {'the same' if alike else 'ANOTHER'} end ({told})",
                flush=True,
            )
            kills, same, runs = kills + more, same + alike, runs + 1
    met = same == runs
    figures = {
        "kills": {"value": kills, "target": arguments.kills, "met": kills >= arguments.kills},
        "runs_with_the_same_end": {"value": same, "target": runs, "met": met},
    }
    print(json.dumps({"figures": figures}))
    raise SystemExit(not met)


if __name__ == "__main__":
    main()
