"""Make data/lfi_references.h5: 10 000 posterior samples for each observation of sir and lotka_volterra.

A tempered sequential Monte Carlo run finds the posterior; a Student t law fitted to it in unconstrained space is
resampled by importance, none twice, which is exact but for the number of draws. Stored beside the samples, for each
observation: the effective share of the weights; the greatest difference of means between the two methods, in
deviations; and the R-hat of four independent runs. With two parameters the means are compared with quadrature too.

    python scripts/make_lfi_references.py [FILE]
"""

import sys
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from problems.inference.lotka_volterra import LotkaVolterra
from problems.inference.sir import SIR
from sciml.files import replacing
from sciml.inference.resampling import StudentT, effective_size, importance_resample
from sciml.inference.tempering import r_hat, temper

COUNT = 10_000
PARTICLES = 500
RUNS = 4
MOVES = 4
DEGREES = 5.0
WIDER = 1.3


def make(problem: SIR | LotkaVolterra) -> tuple[np.ndarray, dict[str, float]]:
    """Return posterior samples, shape (10 000, parameters), and what was found of their quality."""
    prior, x = problem.prior(), torch.from_numpy(problem.observed())

    def likelihood(theta: Tensor) -> Tensor:
        return problem.log_likelihood(theta, x.expand(len(theta), -1))

    generator = torch.Generator().manual_seed(problem.observation)
    runs = torch.stack(
        [prior.unconstrain(temper(prior, likelihood, PARTICLES, generator, MOVES).theta) for _ in range(RUNS)]
    )
    pooled = runs.flatten(0, 1)
    law = StudentT(pooled.mean(dim=0), WIDER * torch.cov(pooled.T), DEGREES)
    seen: list[Tensor] = []

    def log_weight(free: Tensor) -> Tensor:
        seen.append(likelihood(prior.constrain(free)) + prior.log_prob_free(free) - law.log_prob(free))
        return seen[-1]

    free = importance_resample(law, log_weight, COUNT, generator, chunk=2**14)
    deviation = free.std(dim=0)
    quality = {
        "effective_share": effective_size(torch.cat(seen)) / len(torch.cat(seen)),
        "distinct": float(len(free.unique(dim=0))),
        "mean_difference": float(((pooled.mean(dim=0) - free.mean(dim=0)) / deviation).abs().max()),
        "deviation_ratio": float((pooled.std(dim=0) / deviation).log().abs().max().exp()),
        "r_hat": r_hat(runs),
    }
    if free.shape[1] == 2:
        mean = free.mean(dim=0)
        axes = [torch.linspace(float(m - 7 * s), float(m + 7 * s), 121) for m, s in zip(mean, deviation, strict=True)]
        grid = torch.cartesian_prod(*axes).double()
        weights = torch.softmax(likelihood(prior.constrain(grid)) + prior.log_prob_free(grid), dim=0)
        quality["quadrature_mean_difference"] = float(((weights @ grid - mean) / deviation).abs().max())
    return prior.constrain(free).numpy(), quality


def main(path: Path) -> None:
    """Write the file."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["title"] = "Posterior samples of tasks of Benchmarking simulation-based inference, 2021"
        file.attrs["source"] = "exact likelihoods of sir and lotka_volterra, by sampling"
        file.attrs["license"] = "MIT"
        file.attrs["history"] = "scripts/make_lfi_references.py"
        for kind in (SIR, LotkaVolterra):
            made = [make(kind(observation=k)) for k in range(1, 11)]
            samples = np.stack([s for s, _ in made]).astype(np.float32)
            kept = file.create_dataset(kind.name, data=samples, compression="gzip", shuffle=True)
            kept.attrs["long_name"], kept.attrs["units"] = "posterior samples of each observation", "1"
            for name in made[0][1]:
                values = np.array([quality[name] for _, quality in made])
                kept.attrs[name] = values
                print(kind.name, name, np.array2string(values, precision=3))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "data" / "lfi_references.h5")
