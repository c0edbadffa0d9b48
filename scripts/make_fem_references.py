"""Make data/cavity_*.h5 by spectral elements, and data/navier_stokes_step.h5 by triangles: converged flows.

The elements are rectangles of a grid that is narrow where the flow is singular, with polynomials of degree n for the
velocities and n - 1 for the pressure, raised until the last two solutions agree. Printed are their difference, that
from another grid, and that from the triangles of ``solver=fem``, which share the weak form and nothing else; all
relative in L2, at the points where solutions are scored. A cavity takes one minute of CPU time, the step a quarter;
of the parabolic lid no run was finished, and nothing is stored.

    python scripts/make_fem_references.py [FILE ...]
"""

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
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

Function = Callable[[np.ndarray], np.ndarray]
"""Of points (n, 2), with the fields (n, fields)."""
Breaks = Sequence[Sequence[float]]
"""Of a grid, along x and y."""
DATA = Path(__file__).parent.parent / "data"
CAVITY = (
    (0, 1e-4, 5e-4, 0.002, 0.008, 0.03, 0.09, 0.2, 0.35, 0.5, 0.65, 0.8, 0.91, 0.97, 0.992, 0.998, 0.9995, 0.9999, 1),
    (0, 0.15, 0.35, 0.55, 0.75, 0.9, 0.97, 0.992, 0.998, 0.9995, 0.9999, 1),
)
OTHER = (
    (0, 2e-4, 0.001, 0.004, 0.015, 0.05, 0.12, 0.25, 0.42, 0.58, 0.75, 0.88, 0.95, 0.985, 0.996, 0.999, 0.9998, 1),
    (0, 0.1, 0.25, 0.45, 0.65, 0.82, 0.94, 0.985, 0.996, 0.999, 0.9998, 1),
)
"""The grid of a check, with the last degree but one."""
DEGREES = (4, 6, 8, 9)
CONTINUED = (100, 400)
"""Reynolds numbers of the flows from which Newton's method goes on to greater ones, at the lowest degree."""
STEP_FILE = "navier_stokes_step.h5"
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

    def __init__(self, form: Form, breaks: Breaks, degree: int) -> None:
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


CAVITIES = {
    f"cavity_{c.lid}_{c.reynolds}.h5": c for c in (Cavity(100), Cavity(400), Cavity(1000), Cavity(100, "parabolic"))
}
STEP = (
    (0, 0.4, 0.9, 1.4, 1.75, 1.92, 2, 2.08, 2.25, 2.6, 3.1, 3.6, 4),
    (0, 0.3, 0.6, 0.83, 0.94, 1, 1.06, 1.17, 1.4, 1.7, 2),
)


def below_step(points: np.ndarray) -> np.ndarray:
    """Return points with those above the inflow channel brought down to its wall."""
    x, y = points.T
    return np.stack([x, np.where(x < 2, np.minimum(y, 1), y)], axis=1)


def make_step() -> None:
    """Solve the flow past a step by triangles of degrees 4 and 3, compare, and store the first."""
    problem = NavierStokesStep()
    fine, check = (
        Fem(tolerance=1e-5, degree=d, unknowns=n).solve(problem, Context()) for d, n in ((4, 50000), (3, 30000))
    )
    store(STEP_FILE, problem, STEP, lambda points: fine(below_step(points)))
    points = _scored(problem)
    stored = stored_fields(DATA / STEP_FILE, [f.name for f in problem.fields])(points)
    print("  from degree 3:", _apart(problem, check(points), fine(points)))
    print("  stored:", _apart(problem, stored, fine(points)))


def make_cavity(name: str) -> None:
    """Solve one flow by rising degrees, compare, and store the last."""
    problem = CAVITIES[name]
    points, function, before = _scored(problem), None, None
    for easier in (r for r in CONTINUED if r < problem.reynolds):
        function = flow(Cavity(easier, problem.lid), CAVITY, DEGREES[0], function)
    for degree in DEGREES:
        function = flow(problem, CAVITY, degree, function)
        now = function(points)
        if before is not None:
            print(f"  degree {degree}:", _apart(problem, before, now), flush=True)
        before = now
    assert function is not None
    store(name, problem, CAVITY, function)
    other = flow(problem, OTHER, DEGREES[-2], function)
    print("  from another grid:", _apart(problem, other(points), function(points)), flush=True)
    check = Fem(tolerance=CHECK).solve(problem, Context())
    print("  from triangles:", _apart(problem, check(points), function(points)), check.notes)


def flow(problem: Residual, breaks: Breaks, degree: int, start: Function | None) -> Function:
    """Return a flow by Newton's method, from another or from rest."""
    began = time.process_time()
    system = Rectangles(Form(problem), breaks, degree)
    y, steps = solved(system, np.zeros(system.size) if start is None else system.carried(start))
    seconds = time.process_time() - began
    print(f"{problem!r}: degree {degree}, {system.size} unknowns, {steps} steps, {seconds:.0f} s", flush=True)
    return system.function(y)


def store(name: str, problem: Residual, breaks: Breaks, function: Function) -> None:
    nodes = lobatto(DEGREES[-1])
    lines = [Pieces(np.array(b, dtype=float), nodes) for b in breaks]
    values = function(grid_points(dict(zip("xy", (line.nodes for line in lines), strict=True))))
    path = DATA / name
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["title"] = f"{problem!r}: converged fields"
        file.attrs["history"] = "scripts/make_fem_references.py"
        file["nodes"] = nodes
        for axis, line in zip("xy", lines, strict=True):
            file[f"{axis}_breaks"] = line.breaks
        for f, column in zip(problem.fields, values.T, strict=True):
            file[f.name] = column.reshape(*(len(line.nodes) for line in lines))
    print("  sha256", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size, "bytes", flush=True)


def _scored(problem: Residual) -> np.ndarray:
    points = grid_points(problem.evaluation_grid())
    points = points[problem.region.contains(points)]
    return points[problem.scored(points)]


def _apart(problem: Residual, one: np.ndarray, other: np.ndarray) -> str:
    """Return the relative difference of each field."""
    apart = np.linalg.norm(one - other, axis=0) / np.linalg.norm(other, axis=0)
    return " ".join(f"{f.name} {e:.1e}" for f, e in zip(problem.fields, apart, strict=True))


if __name__ == "__main__":
    for chosen in sys.argv[1:] or (*CAVITIES, STEP_FILE):
        make_step() if chosen == STEP_FILE else make_cavity(chosen)
