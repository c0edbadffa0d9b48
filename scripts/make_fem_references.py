"""Make data/cavity_*.h5 by spectral elements, and data/navier_stokes_step.h5 by triangles: converged flows.

The elements are rectangles of a grid that is narrow where the flow is singular, with polynomials of degree n for the
velocities and n - 1 for the pressure, raised until the last two solutions agree; their difference is printed, and
that from the triangles of ``solver=fem``, which share the weak form and nothing else. Both are relative in L2, at the
points where solutions are scored.

    python scripts/make_fem_references.py [FILE ...]
"""

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.polynomial import legendre

from problems.pde._stored import stored_fields
from problems.pde.cavity import Cavity
from problems.pde.navier_stokes_step import NavierStokesStep
from sciml.files import replacing
from sciml.pde.collocation import GridFunction, Pieces
from sciml.pde.fields import Derivative
from sciml.solver import Context
from sciml.views.residual import Residual, grid_points
from solvers.pde._fem_form import Form
from solvers.pde._fem_mesh import holds
from solvers.pde._fem_system import Quadrature, System, boundary_value
from solvers.pde.fem import Fem, solved

DATA = Path(__file__).parent.parent / "data"
CAVITY = (
    (0, 1e-4, 5e-4, 0.002, 0.008, 0.03, 0.09, 0.2, 0.35, 0.5, 0.65, 0.8, 0.91, 0.97, 0.992, 0.998, 0.9995, 0.9999, 1),
    (0, 0.15, 0.35, 0.55, 0.75, 0.9, 0.97, 0.992, 0.998, 0.9995, 0.9999, 1),
)
DEGREES = (4, 6, 8, 9)
CHECK = 1e-3
"""The tolerance of the check by triangles."""


def lobatto(degree: int) -> np.ndarray:
    """Return the Gauss-Lobatto-Legendre points of [-1, 1]."""
    inner = legendre.legroots(legendre.legder([0] * degree + [1])).real
    return np.concatenate([[-1.0], np.sort(inner), [1.0]])


class Rectangles(System):
    """A form on the rectangles of a tensor grid; its unknowns are values at Gauss-Lobatto points.

    Args:
        form: the weak form.
        breaks: of the grid, along x and y.
        degree: of the polynomials, one less for fields without second derivatives.
    """

    def __init__(self, form: Form, breaks: Sequence[np.ndarray], degree: int) -> None:
        self.breaks = [np.asarray(b, dtype=float) for b in breaks]
        self.nodes = {f: lobatto(degree if f in form.second else degree - 1) for f in form.fields}
        points, weights = legendre.leggauss(degree + 3)
        cells = [len(b) - 1 for b in self.breaks]
        dofs, shapes, self.places, size = {}, {}, {}, 0
        for f, nodes in self.nodes.items():
            lines = [np.unique(Pieces(b, nodes).nodes) for b in self.breaks]
            counts = [np.arange(k)[:, None] * (len(nodes) - 1) + np.arange(len(nodes)) for k in cells]
            numbers = size + counts[0][:, None, :, None] * len(lines[1]) + counts[1][None, :, None, :]
            dofs[f] = numbers.reshape(cells[0] * cells[1], -1)
            shapes[f] = self._shapes(nodes, points)
            self.places[f] = size, np.stack([g.ravel() for g in np.meshgrid(*lines, indexing="ij")])
            size += len(lines[0]) * len(lines[1])
        x, y = (Pieces(b, points).nodes.reshape(k, -1) for b, k in zip(self.breaks, cells, strict=True))
        wx, wy = (np.diff(b)[:, None] / 2 * weights for b in self.breaks)
        at = np.broadcast_arrays(x[:, None, :, None], y[None, :, None, :], wx[:, None, :, None] * wy[None, :, None, :])
        *where, weight = (a.reshape(cells[0] * cells[1], -1) for a in at)
        inside = Quadrature(np.stack(where), weight, shapes, dofs)
        super().__init__(form, inside, [], self._given(form, size), size)

    def _shapes(self, nodes: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return values and slopes of all products of two Lagrange polynomials, shape (cells, functions, 3, q)."""
        value, slope = (Pieces(np.array([-1.0, 1.0]), nodes).matrix(points, k).toarray() for k in (0, 1))
        products = [np.einsum("qi,rj->ijqr", a, b) for a, b in ((value, value), (slope, value), (value, slope))]
        flat = [p.reshape(len(nodes) ** 2, -1) for p in products]
        stretch = np.meshgrid(*(2 / np.diff(b) for b in self.breaks), indexing="ij")
        scale = np.stack([np.ones(stretch[0].size), *(s.ravel() for s in stretch)])
        return np.einsum("ac,anq->cnaq", scale, np.stack(flat))

    def _given(self, form: Form, size: int) -> tuple[np.ndarray, np.ndarray]:
        value = np.full(size, np.nan)
        ends = [(b[0], b[-1]) for b in self.breaks]
        for condition in form.essential:
            start, places = self.places[condition.field]
            edge = np.flatnonzero(np.isin(places[0], ends[0]) | np.isin(places[1], ends[1]))
            edge = edge[holds(condition.part, places[:, edge], form.axes)]
            value[start + edge] = boundary_value(condition, places[:, edge], form.axes)
        for pin in form.pins:
            value[self.places[pin.field][0]] = 0.0  # `function` sets the level
        which = np.flatnonzero(np.isfinite(value))
        return which, value[which]

    def function(self, y: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """Return the fields as a function of points (n, 2), shape (n, fields)."""
        lines, values = {}, {}
        for f, nodes in self.nodes.items():
            m, (kx, ky) = len(nodes), (len(b) - 1 for b in self.breaks)
            lines[f] = tuple(Pieces(b, nodes) for b in self.breaks)
            cells = y[self.inside.dofs[f]].reshape(kx, ky, m, m)
            values[f] = cells.transpose(0, 2, 1, 3).reshape(kx * m, ky * m)
        grid, wanted = GridFunction(lines, values), [Derivative(f, (0, 0)) for f in self.nodes]
        for pin in self.form.pins:
            of = Derivative(pin.field, (0, 0))
            values[pin.field] += pin.value - grid(pin.point[None], [of])[of]
        return lambda points: np.stack([grid(points, wanted)[d] for d in wanted], axis=1)

    def carried(self, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Return the unknowns of a function."""
        y = np.zeros(self.size)
        for k, (start, places) in enumerate(self.places.values()):
            y[start : start + places.shape[1]] = function(places.T)[:, k]
        return y


@dataclass(frozen=True)
class Case:
    """A flow in a box, and its grid."""

    name: str
    problem: Residual
    breaks: Sequence[Sequence[float]]


CASES = {
    f"cavity_{lid}_{reynolds}.h5": Case(f"cavity_{lid}_{reynolds}.h5", Cavity(reynolds, lid), CAVITY)
    for lid, reynolds in (("uniform", 100), ("uniform", 400), ("uniform", 1000), ("parabolic", 100))
}


STEP = (
    (0, 0.4, 0.9, 1.4, 1.75, 1.92, 2, 2.08, 2.25, 2.6, 3.1, 3.6, 4),
    (0, 0.3, 0.6, 0.83, 0.94, 1, 1.06, 1.17, 1.4, 1.7, 2),
)


def below_step(points: np.ndarray) -> np.ndarray:
    """Return points with those above the inflow channel brought down to its wall."""
    x, y = points.T
    return np.stack([x, np.where(x < 2, np.minimum(y, 1), y)], axis=1)


def make_step(name: str) -> None:
    """Solve the flow past a step by triangles of degrees 4 and 3, compare, and store the first."""
    problem = NavierStokesStep()
    fine, check = (
        Fem(tolerance=1e-5, degree=d, unknowns=n).solve(problem, Context()) for d, n in ((4, 50000), (3, 30000))
    )
    store(Case(name, problem, STEP), lambda points: fine(below_step(points)), lobatto(9))
    points = grid_points(problem.evaluation_grid())
    points = points[problem.region.contains(points) & problem.scored(points)]
    stored = stored_fields(DATA / name, [f.name for f in problem.fields])(points)
    for other in (check(points), stored):
        print("  apart", _apart(problem, other, fine(points)))


def make(case: Case) -> None:
    """Solve one flow by rising degrees, compare, and store the last."""
    problem, form = case.problem, Form(case.problem)
    points = grid_points(problem.evaluation_grid())
    points = points[problem.region.contains(points)]
    points = points[problem.scored(points)]
    before = function = None
    for degree in DEGREES:
        system = Rectangles(form, case.breaks, degree)
        y, _ = solved(system, np.zeros(system.size) if function is None else system.carried(function))
        function = system.function(y)
        now = function(points)
        if before is not None:
            print(f"{case.name} degree {degree}, {system.size} unknowns:", _apart(problem, before, now), flush=True)
        before = now
    store(case, function, lobatto(DEGREES[-1]))
    check = Fem(tolerance=CHECK).solve(problem, Context())
    print("  from triangles:", _apart(problem, check(points), now), "estimated", check.notes["estimated_error"])


def store(case: Case, function: Callable[[np.ndarray], np.ndarray], nodes: np.ndarray) -> None:
    lines = [Pieces(np.array(b, dtype=float), nodes) for b in case.breaks]
    values = function(grid_points(dict(zip("xy", (line.nodes for line in lines), strict=True))))
    path = DATA / case.name
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["title"] = f"{case.problem!r}: converged fields"
        file.attrs["history"] = "scripts/make_fem_references.py"
        file["nodes"] = nodes
        for axis, line in zip("xy", lines, strict=True):
            file[f"{axis}_breaks"] = line.breaks
        for f, column in zip(case.problem.fields, values.T, strict=True):
            file[f.name] = column.reshape(*(len(line.nodes) for line in lines))
    print("  sha256", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size, "bytes")


def _apart(problem: Residual, one: np.ndarray, other: np.ndarray) -> str:
    """Return the relative difference of each field."""
    apart = np.linalg.norm(one - other, axis=0) / np.linalg.norm(other, axis=0)
    return " ".join(f"{f.name} {e:.1e}" for f, e in zip(problem.fields, apart, strict=True))


if __name__ == "__main__":
    for chosen in sys.argv[1:] or (*CASES, "navier_stokes_step.h5"):
        make(CASES[chosen]) if chosen in CASES else make_step(chosen)
