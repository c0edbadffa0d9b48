"""Make posterior samples for each of the ten observations of tasks with an exact likelihood, and observations of ours.

Tempered sequential Monte Carlo runs find the posterior; draws of a law fitted to them in unconstrained space are
resampled by importance, which is exact but for the number of draws. Stored beside the samples, for each observation:
the effective share of the weights; how many samples differ; the greatest difference of means between the two methods,
in deviations; and the R-hat of four independent runs. Where nodes are stated so are the means by quadrature.

data/lfi_references.h5 holds 10 000 samples of sir and lotka_volterra, whose observations were published. Tasks of ours
have a file each, of that name, with observations made at parameters drawn from the prior, and 5000 samples. Of
grid_state the loads are sampled so for each line that may be open, in proportion to the evidence of each; beside it
stand the differences of the lines' probabilities and of the means from the midpoint rule over the whole prior.

    python scripts/make_lfi_references.py [NAME ...]
"""

import math
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from problems.inference._observed import STORED
from problems.inference.g_and_k import GAndK
from problems.inference.grid_state import LINES, LOADS, NOISE, GridState
from problems.inference.heat_source import HeatSource
from problems.inference.jets import Jets
from problems.inference.lotka_volterra import LotkaVolterra
from problems.inference.sir import SIR
from sciml.errors import UserError, did_you_mean
from sciml.files import replacing
from sciml.inference.priors import Prior
from sciml.inference.resampling import StudentT, effective_size, importance_resample
from sciml.inference.tempering import r_hat, temper
from sciml.views.simulator import Simulator

DATA = Path(__file__).parent.parent / "data"
PUBLISHED = "lfi_references"
OURS = {kind.name: kind for kind in (GAndK, HeatSource, Jets, GridState)}
NODES = {"sir": 121, "g_and_k": 20, "heat_source": 61, "jets": 81}
"""Of quadrature along each principal axis."""
SEED = 2026
OBSERVATIONS = 10
COUNT = 10_000
PARTICLES = 500
RUNS = 4
MOVES = 4
DEGREES = 5.0
WIDER = 1.3
WIDTH = 0.45
"""Of the kernel at each particle, in deviations of all."""
CHUNK = 2**14
"""Draws that are weighed at a time."""
BLOCK = 2**12
"""Likelihoods evaluated together, in the processor's cache."""
MOST = {"g_and_k": 2**15, "heat_source": 2**17, "jets": 2**15, "grid_state": 2**15}
"""Draws that are weighed for a task of ours, at most."""
NEGLIGIBLE = 1e-5
"""Probability of an open line below which it has no samples."""
MIDPOINTS = 40
"""Of the range of each load."""


class Kernels:
    """A Student t law of one scale about each of many points (m, d), in equal parts."""

    def __init__(self, points: Tensor) -> None:
        self.points = points
        self.kernel = StudentT(torch.zeros_like(points[0]), WIDTH**2 * torch.cov(points.T), DEGREES)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw points, shape (count, d)."""
        centres = torch.randint(len(self.points), (count,), generator=generator)
        return self.points[centres] + self.kernel.sample(count, generator)

    def log_prob(self, points: Tensor) -> Tensor:
        """Return the log density of points (n, d), shape (n,)."""
        whiten, degrees, size = torch.linalg.inv(self.kernel.factor).T, DEGREES, points.shape[1]
        peak = self.kernel.log_prob(torch.zeros_like(points[:1])) - math.log(len(self.points))
        logs = []
        for part in points.split(BLOCK):
            squares = torch.cdist(part @ whiten, self.points @ whiten) ** 2
            logs.append(peak + (-(degrees + size) / 2 * torch.log1p(squares / degrees)).logsumexp(dim=1))
        return torch.cat(logs)


class Lines:
    """Unconstrained loads and the line that is open, of one law of loads for each line.

    Args:
        laws: of the loads, by line.
        weights: probability of each of these lines, shape (lines,).
    """

    def __init__(self, laws: Mapping[int, Kernels], weights: Tensor) -> None:
        self.laws = laws
        self.weights = dict(zip(laws, weights.tolist(), strict=True))

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw loads and a line, shape (count, loads + 1)."""
        drawn = torch.multinomial(torch.tensor(list(self.weights.values())), count, True, generator=generator)
        parts = []
        for k, (line, law) in enumerate(self.laws.items()):
            loads = law.sample(int((drawn == k).sum()), generator)
            parts.append(torch.cat([loads, torch.full_like(loads[:, :1], line)], dim=1))
        return torch.cat(parts)[torch.randperm(count, generator=generator)]

    def log_prob(self, points: Tensor) -> Tensor:
        """Return the log density of points (n, loads + 1), shape (n,)."""
        logs = torch.empty(len(points), dtype=points.dtype)
        for line, law in self.laws.items():
            rows = points[:, -1] == line
            logs[rows] = law.log_prob(points[rows, :-1]) + math.log(self.weights[line])
        return logs


def wide(points: Tensor) -> StudentT:
    """Return one Student t law of the centre of points (m, d), and wider than they are."""
    return StudentT(points.mean(dim=0), WIDER * torch.cov(points.T), DEGREES)


def make(
    problem: Simulator,
    x: np.ndarray,
    count: int,
    seed: int,
    fit: Callable[[Tensor], StudentT | Kernels],
    most: int,
) -> tuple[np.ndarray, dict[str, float]]:
    """Return posterior samples given an observation, shape (count, parameters), and what was found of their quality.

    Args:
        problem: the task.
        x: the observation, shape (data,).
        count: samples.
        seed: of all draws.
        fit: returns the law that is resampled, of unconstrained points (m, parameters).
        most: draws of that law at most.
    """
    prior, given = problem.prior(), torch.from_numpy(x)

    def likelihood(theta: Tensor) -> Tensor:
        parts = (problem.log_likelihood(part, given.expand(len(part), -1)) for part in theta.split(BLOCK))
        return torch.cat(list(parts))

    generator = torch.Generator().manual_seed(seed)
    runs = torch.stack(
        [prior.unconstrain(temper(prior, likelihood, PARTICLES, generator, MOVES).theta) for _ in range(RUNS)]
    )
    pooled = runs.flatten(0, 1)
    law = fit(pooled)
    seen: list[Tensor] = []

    def log_weight(free: Tensor) -> Tensor:
        seen.append(likelihood(prior.constrain(free)) + prior.log_prob_free(free) - law.log_prob(free))
        return seen[-1]

    free = importance_resample(law, log_weight, count, generator, most, CHUNK)
    deviation = free.std(dim=0)
    quality = {
        "effective_share": effective_size(torch.cat(seen)) / len(torch.cat(seen)),
        "distinct": float(len(free.unique(dim=0))),
        "mean_difference": float(((pooled.mean(dim=0) - free.mean(dim=0)) / deviation).abs().max()),
        "deviation_ratio": float((pooled.std(dim=0) / deviation).log().abs().max().exp()),
        "r_hat": r_hat(runs),
    }
    if problem.name in NODES:
        mean, line = free.mean(dim=0), torch.linspace(-6, 6, NODES[problem.name], dtype=free.dtype)
        grid = mean + torch.cartesian_prod(*[line] * len(mean)) @ torch.linalg.cholesky(torch.cov(free.T)).T
        weights = torch.softmax(likelihood(prior.constrain(grid)) + prior.log_prob_free(grid), dim=0)
        quality["quadrature_mean_difference"] = float(((weights @ grid - mean) / deviation).abs().max())
    return prior.constrain(free).numpy(), quality


@cache
def table(problem: GridState) -> tuple[Tensor, Tensor]:
    """Return loads at the midpoints of cells of the prior, (n, loads), and flows there with each line open."""
    middles = (torch.arange(MIDPOINTS).double() + 0.5) / MIDPOINTS
    loads = torch.tensor(list(LOADS.values())).double()
    grid = torch.cartesian_prod(*(low + (high - low) * middles for low, high in loads))
    codes = torch.arange(LINES).double() + 0.5
    rows = [torch.cat([part, code.expand(len(part), 1)], dim=1) for code in codes for part in grid.split(BLOCK)]
    return grid, torch.cat([problem.flows(part) for part in rows]).view(LINES, len(grid), -1)


def make_by_line(problem: GridState, x: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, float]]:
    """Return posterior samples of grid_state given an observation, shape (5000, parameters), and their quality."""
    given, generator = torch.from_numpy(x), torch.Generator().manual_seed(seed)
    prior = Prior(problem.prior().marginals[:-1])
    grid, flows = table(problem)
    weights = (-((flows - given) ** 2).sum(dim=2) / (2 * NOISE**2)).flatten().softmax(dim=0).view(LINES, -1)
    probability = weights.sum(dim=1)
    possible = (probability > NEGLIGIBLE).nonzero()[:, 0].tolist()

    def likelihood(loads: Tensor, line: Tensor | float) -> Tensor:
        theta = torch.cat([loads, torch.as_tensor(line).to(loads).expand(len(loads), 1) + 0.5], dim=1)
        parts = (problem.log_likelihood(part, given.expand(len(part), -1)) for part in theta.split(BLOCK))
        return torch.cat(list(parts))

    runs = {
        line: [temper(prior, partial(likelihood, line=line), PARTICLES, generator, MOVES) for _ in range(RUNS)]
        for line in possible
    }
    evidence = torch.tensor([[run.log_evidence for run in found] for found in runs.values()]).logsumexp(dim=1)
    free = {line: torch.stack([prior.unconstrain(run.theta) for run in found]) for line, found in runs.items()}
    law = Lines({line: Kernels(points.flatten(0, 1)) for line, points in free.items()}, evidence.softmax(dim=0))
    seen: list[Tensor] = []

    def log_weight(points: Tensor) -> Tensor:
        loads = prior.constrain(points[:, :-1])
        seen.append(likelihood(loads, points[:, -1:]) + prior.log_prob_free(points[:, :-1]) - law.log_prob(points))
        return seen[-1]

    points = importance_resample(law, log_weight, STORED, generator, MOST[problem.name], CHUNK)
    loads, line = prior.constrain(points[:, :-1]), points[:, -1]
    shares = torch.stack([(line == k).double().mean() for k in range(LINES)])
    by_runs = torch.tensor([law.weights.get(k, 0.0) for k in range(LINES)])
    mean, deviation = weights.sum(dim=0) @ grid, loads.std(dim=0)
    quality = {
        "effective_share": effective_size(torch.cat(seen)) / len(torch.cat(seen)),
        "distinct": float(len(points.unique(dim=0))),
        "line_difference": float((shares - by_runs).abs().max()),
        "r_hat": max(r_hat(points) for points in free.values()),
        "lines": float((shares > 0.01).sum()),
        "quadrature_line_difference": float((shares - probability).abs().max()),
        "quadrature_mean_difference": float(((loads.mean(dim=0) - mean) / deviation).abs().max()),
    }
    code = line + torch.rand(len(line), generator=generator, dtype=line.dtype)
    return torch.cat([loads, code[:, None]], dim=1).numpy(), quality


def keep(file: h5py.File, name: str, made: list[tuple[np.ndarray, dict[str, float]]]) -> None:
    """Write the samples of all observations of a task under a name, with their quality."""
    write(file, name, np.stack([s for s, _ in made]).astype(np.float32), "posterior samples of each observation")
    for quality in made[0][1]:
        values = np.array([found[quality] for _, found in made])
        file[name].attrs[quality] = values
        print(name, quality, np.array2string(values, precision=3), flush=True)


def published(file: h5py.File) -> None:
    """Write what belongs to the public tasks."""
    file.attrs["title"] = "Posterior samples of tasks of Benchmarking simulation-based inference, 2021"
    file.attrs["source"] = "exact likelihoods of sir and lotka_volterra, by sampling"
    for kind in (SIR, LotkaVolterra):
        problem = kind()
        observations = enumerate(problem.published("observations"), 1)
        keep(file, kind.name, [make(problem, x, COUNT, seed, wide, 2**22) for seed, x in observations])


def ours(file: h5py.File, problem: Simulator) -> None:
    """Write observations of a task of ours, and what belongs to them."""
    file.attrs["title"] = f"Observations of {problem.name} and their posterior samples"
    file.attrs["source"] = "simulated; exact likelihood, by sampling"
    made = problem.joint(2 * OBSERVATIONS, torch.Generator().manual_seed(SEED))
    theta, observations = (array[:OBSERVATIONS].numpy() for array in made)
    write(file, "true_parameters", theta, "parameters that made each observation")
    write(file, "observations", observations, "data of each observation")
    found = []
    for seed, x in enumerate(observations, 1):
        if isinstance(problem, GridState):
            found.append(make_by_line(problem, x, seed))
        else:
            found.append(make(problem, x, STORED, seed, Kernels, MOST[problem.name]))
    keep(file, "samples", found)


def write(file: h5py.File, name: str, values: np.ndarray, meaning: str) -> None:
    """Write one array."""
    kept = file.create_dataset(name, data=values, compression="gzip", shuffle=True)
    kept.attrs["long_name"], kept.attrs["units"] = meaning, "1"


def main(names: list[str]) -> None:
    """Make the files named, or all."""
    known = (PUBLISHED, *OURS)
    for name in names or known:
        if name not in known:
            raise UserError(f"no file {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})")
        with replacing(DATA / f"{name}.h5") as temporary, h5py.File(temporary, "w") as file:
            file.attrs["license"] = "MIT"
            file.attrs["history"] = "scripts/make_lfi_references.py"
            published(file) if name == PUBLISHED else ours(file, OURS[name]())


if __name__ == "__main__":
    main(sys.argv[1:])
