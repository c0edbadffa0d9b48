"""Make data/two_moons.h5: the published observations of two moons, from their published seeds.

The benchmark of J.-M. Lueckmann et al., Benchmarking simulation-based inference, 2021, arXiv 2101.04653
(package sbibm 1.1.0, MIT licence) drew each observation in float32 after seeding PyTorch: the parameters from
the prior, then the simulation.

    python scripts/make_two_moons.py [FILE]
"""

import sys
from pathlib import Path

import h5py
import numpy as np
import torch

from problems.inference.two_moons import TwoMoons
from sciml.files import replacing
from sciml.inference.draws import RandomDraws

SEEDS = (1000011, 1000001, 1000002, 1000003, 1000013, 1000005, 1000006, 1000007, 1000008, 1000009)


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the true parameters and the observation of a seed, each of shape (2,)."""
    generator = torch.Generator().manual_seed(seed)
    theta = 2 * torch.rand(1, 2, generator=generator) - 1
    x = TwoMoons().simulate(theta, RandomDraws(1, generator, torch.float32))
    return theta[0].double().numpy(), x[0].double().numpy()


def main(path: Path) -> None:
    """Write the file."""
    theta, x = (np.stack(rows) for rows in zip(*map(draw, SEEDS), strict=True))
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["title"] = "Observations of two moons, Benchmarking simulation-based inference, 2021"
        file.attrs["source"] = "J.-M. Lueckmann et al., 2021, arXiv 2101.04653; package sbibm 1.1.0"
        file.attrs["license"] = "MIT"
        file.attrs["history"] = "scripts/make_two_moons.py"
        for name, values, meaning in (
            ("observations", x, "data x_1, x_2 of each observation"),
            ("true_parameters", theta, "parameters theta_1, theta_2 that made it"),
        ):
            file[name] = values
            file[name].attrs["long_name"] = meaning
            file[name].attrs["units"] = "1"
        file["seeds"] = np.array(SEEDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "data" / "two_moons.h5")
