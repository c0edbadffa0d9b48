"""Spectral collocation: the classical baseline for partial differential equations on a box."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Interval

from sciml.clock import Clock
from sciml.parameters import Count
from sciml.pde.collocation import Fourier, GridFunction, Line, Pieces
from sciml.pde.fields import Derivative
from sciml.pde.semilinear import Grid, Semilinear
from sciml.solution import Solution
from sciml.solver import Context, Solver
from sciml.views.residual import Residual

from . import _etdrk4
from ._collocated import System
from ._etdrk4 import SUBSTEPS, Exponential
from ._layout import Layout, Mesh
from ._newton import newton
from ._radau import FINEST, STAGES, Marcher, Report, Tableau

Notes = dict[str, float | str]
Method = Callable[[float, Report], tuple[GridFunction, float, Notes]]
"""From a local tolerance to a solution, the greatest relative coefficient that it could not resolve, and notes."""
TRANSFORMED = 100
"""By how much Fourier transforms in several dimensions may have more unknowns than matrices."""
REPEATS = 4
"""Resolutions tried before a tolerance counts as missed."""


class Spectral(Solver[Residual]):
    """Collocates ``F(x, t, u, u_t, u_x, u_xx, ...) = 0`` on Chebyshev pieces, or Fourier where periodic.

    Time-dependent problems are marched with adaptive steps by Radau IIA of order 13 with simplified Newton, along
    lines; in two or more dimensions of space, where all are periodic, the rates are of first order and the highest
    derivatives linear with constant factors, by exponential time differencing (ETDRK4) in Fourier space. Others,
    time included where initial conditions do not fit the equations' order, are solved at once by Newton. Pieces
    whose coefficients do not decay are halved as a front forms: a layer of width w costs log(1/w) pieces, where one
    Chebyshev series would need 1/w points, and no mapping has to know where the layer is. The whole is repeated
    with a thirty times smaller local tolerance until two solutions agree; the finer is returned. The stated error is
    their difference plus the greatest coefficient of what both left out: at the limit of unknowns, and where
    conditions clash at the start.
    Source: L. N. Trefethen, Spectral Methods in MATLAB, SIAM (2000), doi:10.1137/1.9780898719598.

    Args:
        tolerance: of the error, relative to the greatest value of each field.
        unknowns: the most nodal values at one instant (or in all, where time is not marched); a hundred times as many
            in Fourier space of several dimensions, which needs no matrix.
        method: how to march in time.
    """

    kind = "classical"
    needs = Residual
    deterministic = True
    ladder: ClassVar[Mapping[str, tuple[Any, ...]]] = {"tolerance": (1e-2, 1e-4, 1e-6, 1e-8)}

    def __init__(
        self,
        tolerance: Annotated[float, Interval(ge=1e-11, le=0.1)] = 1e-8,
        unknowns: Count = 8000,
        method: Literal["auto", "lines", "etdrk4"] = "auto",
    ) -> None:
        self.tolerance = tolerance
        self.unknowns = unknowns
        self.method = method

    def refuses(self, problem: Residual) -> str | None:
        try:
            layout = Layout(problem)
        except ValueError as reason:
            return str(reason)
        needed = Mesh.coarsest(layout, 4).unknowns()
        if needed > self.unknowns:
            return f"{len(layout.axes)} axes need at least {needed} unknowns; the limit is {self.unknowns}"
        if self.method != "auto" and not layout.marching:
            return f"{self.method} needs a time axis with initial conditions for the equations' order"
        if self.method == "etdrk4":
            try:
                Semilinear(problem)
            except ValueError as reason:
                return str(reason)
        return layout.imbalance()

    def solve(self, problem: Residual, context: Context) -> Solution:
        layout = Layout(problem)
        report = Clock(context).report
        method = self._method(problem, layout)
        local, error, tried, resolved, helps = self.tolerance, math.inf, 1, True, True
        now, missing, notes = method(local, report)
        while helps and tried < REPEATS and error > self.tolerance and local > FINEST:
            if tried > 1 and notes["starved"] == "yes":
                break
            before, earlier, resolved = now, missing, notes["starved"] == "no"
            local, tried = max(local / 30, FINEST), tried + 1
            now, missing, notes = method(local, report)
            error = _difference(before, now) + missing
            helps = missing <= max(self.tolerance, earlier / 2)  # data that clash are missed at any resolution
        met = error <= self.tolerance and resolved
        notes |= {"estimated_error": error, "tolerance_met": "yes" if met else "no", "resolutions": tried}
        return Solution(problem, _function(layout, now), _state(problem, now), notes)

    def restore(self, problem: Residual, state: Mapping[str, np.ndarray]) -> Solution:
        layout = Layout(problem)
        lines, values = {}, {}
        for f in layout.fields:
            values[f] = state[f]
            lines[f] = tuple(
                _line(state[f"{f}_{a}_breaks"], state[f"{f}_{a}_reference"], state[f].shape[i])
                for i, a in enumerate(problem.region.axes)
            )
        grid = GridFunction(lines, values)
        return Solution(problem, _function(layout, grid), _state(problem, grid))

    def _method(self, problem: Residual, layout: Layout) -> Method:
        """Return how the problem is solved to a local tolerance."""
        if not layout.marching:
            return partial(self._collocate, layout)
        if self.method == "etdrk4" or (self.method == "auto" and len(layout.axes) > 1):
            try:
                return partial(self._exponential, Semilinear(problem))
            except ValueError:
                pass
        return partial(self._march, layout)

    def _exponential(self, system: Semilinear, local: float, report: Report) -> tuple[GridFunction, float, Notes]:
        unknowns = self.unknowns * (1 if len(system.axes) == 1 else TRANSFORMED)
        made = Exponential(Grid(system, _etdrk4.FEWEST), local, unknowns).run(report)
        modes = 2 * made.grid.modes + 1
        return (
            _etdrk4.function(made),
            made.missing,
            {
                "method": "Fourier, ETDRK4 with local extrapolation",
                "resolution": ", ".join(f"{a}: {modes}" for a in system.axes),
                "unknowns": len(system.fields) * modes ** len(system.axes),
                "steps": SUBSTEPS * len(made.intervals),
                "rejected_steps": SUBSTEPS * made.rejected,
                "starved": "yes" if made.missing else "no",
            },
        )

    def _march(self, layout: Layout, local: float, report: Report) -> tuple[GridFunction, float, Notes]:
        box = layout.box
        at = box.index("t")
        system = System(self._coarsest(layout, local))
        made = Marcher(system, tuple(box.bounds[at]), local, self.unknowns).run(report)
        moments = Pieces(np.array(made.times), Tableau(STAGES).reference)
        whole = np.concatenate(made.steps, axis=1)
        parts = dict(zip(made.system.blocks, made.system.split(whole), strict=True))
        lines, values = {}, {}
        for f in layout.fields:
            of = list(made.system.lines[f])
            values[f] = np.moveaxis(parts[f, 0].reshape(*made.system.shape[f], -1), -1, at)
            lines[f] = (*of[:at], moments, *of[at:])
        return (
            GridFunction(lines, values),
            made.missing,
            {
                "method": f"lines, Radau IIA of order {2 * STAGES - 1}",
                "resolution": _resolution(made.system),
                "unknowns": made.system.size,
                "steps": len(made.steps),
                "rejected_steps": made.counts["rejected"],
                "iterations": made.counts["iterations"],
                "factorisations": made.counts["factorisations"],
                "starved": "yes" if made.starved else "no",
            },
        )

    def _collocate(self, layout: Layout, local: float, report: Report) -> tuple[GridFunction, float, Notes]:
        system = System(self._coarsest(layout, local))
        y, moment, iterations = np.zeros(system.size), np.zeros(1), 0
        while True:
            y, sizes = newton(
                lambda v, s=system: s.residual(v[:, None], v[:, None], moment)[:, 0],
                lambda v, s=system: s.linearised(v, v, 0.0)[0],
                y,
                max(1e-3 * local, 1e-13),
            )
            iterations += len(sizes)
            report(0.5, {"unknowns": system.size, "iterations": iterations})
            scale = np.array([np.abs(b).max() for b in system.split(y)])
            scale = np.maximum(scale, 1e-3 * scale.max())
            unresolved = system.unresolved(y[:, None], scale, local)
            mesh = system.mesh.refined(unresolved)
            if not unresolved or mesh.unknowns() > self.unknowns:
                break
            finer = System(mesh)
            y, system = system.transfer(finer) @ y, finer
        return (
            system.function(y),
            system.tail(y[:, None], scale) if unresolved else 0.0,
            {
                "method": "collocation on the whole domain, Newton",
                "resolution": _resolution(system),
                "unknowns": system.size,
                "iterations": iterations,
                "starved": "yes" if unresolved else "no",
            },
        )

    def _coarsest(self, layout: Layout, local: float) -> Mesh:
        """Return one piece per axis, of a degree that suits the tolerance, lower for many axes."""
        count = 6 + math.ceil(-1.2 * math.log10(local))
        while count > 4 and Mesh.coarsest(layout, count).unknowns() > self.unknowns:
            count -= 1
        return Mesh.coarsest(layout, count)


def _difference(coarse: GridFunction, fine: GridFunction) -> float:
    """Return the greatest difference at the finer nodes, relative to the greatest value of each field."""
    worst = 0.0
    for f, values in fine.values.items():
        whole = Derivative(f, (0,) * values.ndim)
        grid = np.meshgrid(*(line.nodes for line in fine.lines[f]), indexing="ij")
        points = np.stack([g.ravel() for g in grid], axis=1)
        gap = np.abs(coarse(points, [whole])[whole] - values.ravel()).max()
        greatest = max(np.abs(v).max() for v in fine.values.values())
        worst = max(worst, gap / max(np.abs(values).max(), 1e-3 * greatest, 1e-300))
    return float(worst)


def _function(layout: Layout, grid: GridFunction):
    wanted = [Derivative(f, (0,) * len(layout.box.axes)) for f in layout.fields]

    def function(points: np.ndarray) -> np.ndarray:
        found = grid(points, wanted)
        return np.stack([found[d] for d in wanted], axis=1)

    return function


def _resolution(system: System) -> str:
    mesh = system.mesh
    return ", ".join(f"{a}: {len(mesh.breaks[a]) - 1} x {mesh.count[a]}" for a in system.layout.axes)


def _state(problem: Residual, grid: GridFunction) -> dict[str, np.ndarray]:
    state = {}
    for f, lines in grid.lines.items():
        state[f] = grid.values[f]
        for a, line in zip(problem.region.axes, lines, strict=True):
            pieces = isinstance(line, Pieces)
            state[f"{f}_{a}_breaks"] = line.breaks if pieces else problem.region.bounds[problem.region.axes.index(a)]
            state[f"{f}_{a}_reference"] = line.reference if pieces else np.zeros(0)
    return state


def _line(breaks: np.ndarray, reference: np.ndarray, n: int) -> Line:
    """Return the grid of an axis again; a Fourier series has no reference nodes."""
    return Pieces(breaks, reference) if len(reference) else Fourier(breaks[0], breaks[-1], n)
