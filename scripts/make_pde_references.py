"""Make the references of periodic problems in data/: Fourier modes in time, checked by a second discretisation.

Each solution is marched by collocation in time (order 10 with sweeps) and, with other modes and other steps, by
ETDRK4; the greatest difference is printed and stored. Modes are rounded to a multiple far below the stated error,
so that they compress.

    python scripts/make_pde_references.py [NAME ...]
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from problems.pde._fourier_radau import March
from problems.pde._marched import Marched, Modes
from sciml.errors import UserError, did_you_mean
from sciml.files import replacing
from sciml.pde.fields import Derivative
from sciml.pde.semilinear import Grid, Semilinear
from sciml.registry import entries
from solvers.pde._etdrk4 import Exponential

CHAOS = {"advection": 100 / 16, "growth": 100 / 16**2, "damping": 100 / 16**4, "start": "modulated"}


@dataclass(frozen=True)
class Recipe:
    """How a reference is made.

    Args:
        problem: its registered name.
        modes: the highest wave number of each of the two discretisations, in units of one per period.
        tolerance: of collocation, and of ETDRK4.
        quantum: of what modes are multiples, relative to the greatest.
        settings: other than the problem's defaults.
    """

    problem: str
    modes: int
    tolerance: tuple[float, float]
    quantum: float
    settings: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "allen_cahn": Recipe("allen_cahn", 2048, (1e-13, 1e-9), 1e-15),
    "kdv": Recipe("kdv", 192, (1e-14, 1e-11), 1e-15),
    "kuramoto_sivashinsky": Recipe("kuramoto_sivashinsky", 48, (1e-14, 1e-11), 1e-15),
    "kuramoto_sivashinsky_chaotic": Recipe("kuramoto_sivashinsky", 160, (1e-14, 1e-10), 1e-15, CHAOS),
    "schroedinger": Recipe("schroedinger", 128, (1e-14, 1e-11), 1e-15),
}


def make(recipe: Recipe) -> tuple[Marched, Modes, float]:
    """Return the problem, the modes of its solution, and the greatest error relative to the greatest value."""
    problem: Marched = entries("problem")[recipe.problem].load()(**recipe.settings)
    system = Semilinear(problem.smooth())
    march = March(Grid(system, recipe.modes), recipe.tolerance[0])
    march.run(resolved=False)
    modes = Modes.of(march, 100 * recipe.quantum)
    unit = 2.0 ** round(np.log2(recipe.quantum * np.abs(modes.values).max()))
    modes.values = unit * np.round(modes.values / unit)
    other = Exponential(system, recipe.tolerance[1], 10**6)
    grid = other.run(lambda done, values: None).function()
    points, _ = problem.evaluation
    wanted = [Derivative(f.name, (0,) * len(problem.region.axes)) for f in problem.fields]
    one, two = (np.stack([f(points, wanted)[d] for d in wanted]) for f in (modes.function(problem), grid))
    return problem, modes, float(np.abs(one - two).max() / np.abs(one).max())


def write(path: Path, problem: Marched, modes: Modes, error: float) -> None:
    """Write a reference."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["title"] = f"Reference solution of {problem.name}"
        file.attrs["source"] = "computed; two discretisations compared"
        file.attrs["history"] = "scripts/make_pde_references.py"
        file.attrs["settings"] = json.dumps(dict(problem.settings))
        file.attrs["greatest_difference"] = error
        for name, values, meaning in (
            ("breaks", modes.breaks, "ends of the intervals of time, each with Chebyshev points"),
            ("wave_numbers", modes.kept, "of each mode, in units of one per period"),
            ("modes", modes.values, "Fourier coefficients of real fields: moment, field, mode"),
        ):
            file.create_dataset(name, data=values, compression="gzip", compression_opts=9, shuffle=True)
            file[name].attrs["long_name"] = meaning


def main(names: list[str]) -> None:
    """Make the references named, or all."""
    for name in names or RECIPES:
        if name not in RECIPES:
            raise UserError(f"no recipe {name!r}{did_you_mean(name, RECIPES)} (known: {', '.join(RECIPES)})")
        problem, modes, error = make(RECIPES[name])
        path = Path(__file__).parent.parent / "data" / f"{name}.h5"
        write(path, problem, modes, error)
        print(f"{name}: {modes.values.shape}, greatest difference {error:.1e}, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
