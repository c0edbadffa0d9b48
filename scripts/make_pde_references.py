"""Make the references of periodic problems in data/: Fourier modes in time, checked by a second discretisation.

Each solution is marched by collocation in time (order 10 with sweeps). With one space axis it is compared with lines
of Chebyshev pieces or Fourier points and Radau IIA of order 13, which share nothing with it but the equations; with
more, where lines would have too many unknowns, with ETDRK4 at other modes and other steps, which shares the
evaluation in Fourier space. The greatest difference is printed and stored, and none is stored beyond the stated
error. Modes, or with several space axes their Chebyshev coefficients in time, are rounded to a multiple far below
that error, so that they compress.

    python scripts/make_pde_references.py [NAME ...]
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from problems.pde._fourier_radau import March
from problems.pde._marched import Marched, Modes
from sciml.errors import SolveError, UserError, did_you_mean
from sciml.files import replacing
from sciml.pde.collocation import GridFunction
from sciml.pde.fields import Derivative
from sciml.pde.semilinear import Grid, Semilinear
from sciml.registry import entries
from sciml.views.residual import Residual, grid_points
from solvers.pde._etdrk4 import FEWEST, Exponential, function
from solvers.pde._layout import Layout
from solvers.pde.spectral import Spectral

CHAOS = {"advection": 100 / 16, "growth": 100 / 16**2, "damping": 100 / 16**4, "start": "modulated"}

UNKNOWNS = 10**6
"""The most nodal values of the second discretisation at one instant."""


@dataclass(frozen=True)
class Recipe:
    """How a reference is made.

    Args:
        problem: its registered name.
        modes: the highest wave number, in units of one per period.
        tolerance: of collocation, and of the second discretisation.
        quantum: of what modes or coefficients are multiples, relative to the greatest mode.
        settings: other than the problem's defaults.
    """

    problem: str
    modes: int
    tolerance: tuple[float, float]
    quantum: float
    settings: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    "allen_cahn": Recipe("allen_cahn", 2048, (1e-13, 1e-11), 1e-15),
    "ginzburg_landau": Recipe("ginzburg_landau", 96, (1e-10, 1e-7), 2e-8),
    "gray_scott": Recipe("gray_scott", 64, (1e-9, 1e-6), 1e-8),
    "kdv": Recipe("kdv", 192, (1e-14, 1e-12), 1e-15),
    "kuramoto_sivashinsky": Recipe("kuramoto_sivashinsky", 48, (1e-14, 1e-12), 1e-15),
    "kuramoto_sivashinsky_chaotic": Recipe("kuramoto_sivashinsky", 160, (1e-14, 1e-12), 1e-15, CHAOS),
    "schroedinger": Recipe("schroedinger", 128, (1e-14, 1e-12), 1e-15),
}


def make(recipe: Recipe) -> tuple[Marched, Modes, float, float]:
    """Return a problem, its solution's modes, the quantum, and the difference relative to the greatest value.

    Raises:
        SolveError: the difference exceeds the stated error.
    """
    problem: Marched = entries("problem")[recipe.problem].load()(**recipe.settings)
    march = March(Grid(Semilinear(problem.smooth()), recipe.modes), recipe.tolerance[0])
    march.run(resolved=False)
    modes = Modes.of(march, 100 * recipe.quantum)
    unit = 2.0 ** round(np.log2(recipe.quantum * np.abs(modes.values).max()))
    if len(problem.region.axes) > 2:
        modes = Modes.sum(modes.breaks, modes.kept, modes.series(unit), unit)
    else:
        modes.values = unit * np.round(modes.values / unit)
    points = grid_points(problem.evaluation_grid())
    wanted = [Derivative(f.name, (0,) * len(problem.region.axes)) for f in problem.fields]
    other = second(problem.smooth(), recipe.tolerance[1])
    one, two = (np.stack([f(points, wanted)[d] for d in wanted]) for f in (modes.function(problem), other))
    difference = float(np.abs(one - two).max() / np.abs(one).max())
    if not difference <= (problem.reference_error or 0):
        raise SolveError(f"{recipe.problem}: a difference of {difference:.1e}, stated {problem.reference_error}")
    return problem, modes, unit, difference


def second(problem: Residual, tolerance: float) -> GridFunction:
    """Return a problem's solution by another discretisation.

    Raises:
        SolveError: it left something unresolved.
    """

    def silent(done: float, values: Mapping[str, float]) -> None: ...

    system = Semilinear(problem)
    if len(system.axes) > 1:
        return function(Exponential(Grid(system, FEWEST), tolerance, UNKNOWNS).run(silent))
    lines, *_, notes = Spectral(unknowns=UNKNOWNS)._march(Layout(problem), tolerance, silent)
    if notes["starved"] != "no":
        raise SolveError(f"{problem.name}: the lines are not resolved; {notes}")
    return lines


def write(path: Path, problem: Marched, modes: Modes, quantum: float, error: float) -> None:
    """Write a reference."""
    values = ("modes", modes.values, "Fourier coefficients of real fields: moment, field, mode")
    if modes.kept.shape[1] > 1:
        meaning = "Fourier coefficients in quanta: interval, Chebyshev degree, field, mode, real and imaginary part"
        values = ("series", modes.series(quantum), meaning)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["title"] = f"Reference solution of {problem.name}"
        file.attrs["source"] = "computed; two discretisations compared"
        file.attrs["history"] = "scripts/make_pde_references.py"
        file.attrs["settings"] = json.dumps(dict(problem.settings))
        file.attrs["greatest_difference"] = error
        file.attrs["quantum"] = quantum
        for name, data, meaning in (
            ("breaks", modes.breaks, "ends of the intervals of time, each with Chebyshev points"),
            ("wave_numbers", modes.kept, "of each mode, in units of one per period"),
            values,
        ):
            file.create_dataset(name, data=data, compression="gzip", compression_opts=9, shuffle=True)
            file[name].attrs["long_name"] = meaning


def main(names: list[str]) -> None:
    """Make the references named, or all."""
    for name in names or RECIPES:
        if name not in RECIPES:
            raise UserError(f"no recipe {name!r}{did_you_mean(name, RECIPES)} (known: {', '.join(RECIPES)})")
        problem, modes, quantum, error = make(RECIPES[name])
        path = Path(__file__).parent.parent / "data" / f"{name}.h5"
        write(path, problem, modes, quantum, error)
        print(f"{name}: {modes.values.shape}, greatest difference {error:.1e}, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
