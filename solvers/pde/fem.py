"""Finite elements: the classical baseline on plates with holes and corners, and for flows."""

import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from annotated_types import Interval
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu

from sciml.clock import Clock
from sciml.errors import SolveError
from sciml.parameters import Count
from sciml.pde.geometry import Shape
from sciml.solution import Solution
from sciml.solver import Context, Solver
from sciml.views.residual import Residual

from ._fem_form import Form
from ._fem_function import MeshFunction
from ._fem_mesh import Triangulation, triangulate
from ._fem_space import Space
from ._fem_system import System
from ._newton import newton

ACROSS = 8
"""Triangles along the longer side of the domain to begin with."""
BULK = 0.95
"""The triangles that hold this share of the indicator are refined."""
GROWTH = 1.6
"""Two solutions are compared where the finer has so many times the unknowns."""
PROBES = 4096
NEWTON = 1e-10
"""The last relative step of Newton's method."""
SMALLEST_LOAD = 1e-3
TINY = 1e-3
"""Relative to the greatest entry below it, the pivot on the diagonal that another one replaces."""


class Fem(Solver[Residual]):
    """Galerkin's method on triangles, for steady equations of second order in two dimensions.

    ``F(x, u, u_x, ..., u_yy) = 0``, linear in second derivatives, is tested with the shape functions: second
    derivatives are integrated by parts, all else stands as it is at the quadrature points, and Newton's method
    solves what is not linear. Flows take elements of one degree less for the pressure (Taylor and Hood). Arcs are
    quadratic; the mesh is graded towards reentrant corners and jumps of the boundary values, then refined where
    the highest degree contributes most, until two solutions agree at 4096 points spread over the domain. The finer
    is returned and their difference, relative in L2, is the stated error.
    Sources: T. Gustafsson and G. D. McBain, scikit-fem: A Python package for finite element assembly, J. Open
    Source Softw. 5 (2020), doi:10.21105/joss.02369; C. Taylor and P. Hood, A numerical solution of the
    Navier-Stokes equations using the finite element technique, Computers & Fluids 1 (1973),
    doi:10.1016/0045-7930(73)90027-3.

    Args:
        tolerance: of the error in L2, relative to each field.
        degree: of the polynomials.
        unknowns: the most unknowns.
    """

    kind = "classical"
    needs = Residual
    deterministic = True
    ladder: ClassVar[Mapping[str, tuple[Any, ...]]] = {"tolerance": (1e-2, 1e-4, 1e-6, 1e-8)}

    def __init__(
        self,
        tolerance: Annotated[float, Interval(ge=1e-10, le=0.1)] = 1e-6,
        degree: Annotated[int, Interval(ge=1, le=4)] = 4,
        unknowns: Count = 200_000,
    ) -> None:
        self.tolerance = tolerance
        self.degree = degree
        self.unknowns = unknowns

    def refuses(self, problem: Residual) -> str | None:
        if isinstance(problem.region, Shape) and find_spec("gmsh") is None:
            return "gmsh, which meshes shapes, is not installed; install sciml-solvers with the extra fem"
        try:
            form = Form(problem)
        except ValueError as reason:
            return str(reason)
        if self.degree == 1 and len(form.second) < len(form.fields):
            return "elements of degree 1 have none of lower degree for the pressure"
        return None

    def solve(self, problem: Residual, context: Context) -> Solution:
        form, report = Form(problem), Clock(context).report
        probes = (
            problem.region.interior()
            .sample(PROBES, torch.Generator().manual_seed(0), "sobol", torch.float64)
            .coordinates.numpy()
        )
        space, y, iterations = self._coarsest(form, self._mesh(form))
        function = mesh_function(space, y)
        error, compared = math.inf, space.size
        before = function(probes)
        while error > self.tolerance:
            report(0.5, {"unknowns": space.size, "estimated_error": error})
            mesh = space.mesh.refined(_marked(space.indicator(y)))
            finer = Space(form, mesh, self.degree)
            if finer.size > self.unknowns:
                break
            y, steps = solved(finer, _carried(function, finer))
            space, function, iterations = finer, mesh_function(finer, y), iterations + steps
            if space.size >= GROWTH * compared:
                now = function(probes)
                error, before, compared = _difference(before, now), now, space.size
        notes: dict[str, float | str] = {
            "unknowns": space.size,
            "triangles": space.mesh.straight.t.shape[1],
            "degree": ", ".join(f"{f}: {d}" for f, d in space.degree.items()),
            "iterations": iterations,
            "estimated_error": error if math.isfinite(error) else "none: no finer mesh within the limit of unknowns",
            "tolerance_met": "yes" if error <= self.tolerance else "no",
        }
        return _solution(problem, function, notes)

    def restore(self, problem: Residual, state: Mapping[str, np.ndarray]) -> Solution:
        return _solution(problem, MeshFunction.of_state(tuple(f.name for f in problem.fields), state), {})

    def _mesh(self, form: Form) -> Triangulation:
        """Return a coarse mesh, graded towards the singular points of the boundary."""
        mesh = triangulate(form.region, ACROSS, self.tolerance / 2)
        clashes = Space(form, mesh, max(2, self.degree - 2)).clashes
        for corner, exponent in [*mesh.corners(), *((c, 1.0) for c in clashes)]:
            mesh = mesh.graded(corner, self.tolerance ** (1 / exponent) * mesh.size)
        return mesh

    def _coarsest(self, form: Form, mesh: Triangulation) -> tuple[Space, np.ndarray, int]:
        """Return the solution on the first mesh, by continuation in the nonlinear part where Newton fails."""
        space = Space(form, mesh, self.degree)
        try:
            return space, *solved(space, np.zeros(space.size))
        except SolveError:
            if form.is_linear:
                raise
        y, load, step, iterations = np.zeros(space.size), 0.0, 0.25, 0
        while load < 1:
            try:
                y, steps = solved(space, y, min(1.0, load + step))
                load, step, iterations = min(1.0, load + step), 2 * step, iterations + steps
            except SolveError:
                step /= 2
                if step < SMALLEST_LOAD:
                    raise
        return space, y, iterations


def solved(space: System, start: np.ndarray, load: float = 1.0) -> tuple[np.ndarray, int]:
    """Return the unknowns and the number of Newton steps.

    Args:
        load: by how much the nonlinear part counts; the rest is the linearisation at zero.
    """
    lifted, free = space.lifted(start), space.free
    origin = space.lifted(np.zeros(space.size))
    easy = None if load == 1 else (space.residual(origin), space.jacobian(origin))

    def whole(v: np.ndarray) -> np.ndarray:
        y = lifted.copy()
        y[free] = v
        return y

    def residual(v: np.ndarray) -> np.ndarray:
        y = whole(v)
        value = space.residual(y)
        if easy is not None:
            value = load * value + (1 - load) * (easy[0] + easy[1] @ (y - origin))
        return value[free]

    def jacobian(v: np.ndarray) -> csc_array:
        matrix = space.jacobian(whole(v))
        if easy is not None:
            matrix = load * matrix + (1 - load) * easy[1]
        return csc_array(csc_array(matrix)[free][:, free])

    v, solve = lifted[free], _linear_solver(space.form)
    if space.form.is_linear:
        return whole(v - solve(jacobian(v), residual(v))), 1
    v, sizes = newton(residual, jacobian, v, NEWTON, solve)
    return whole(v), len(sizes)


def _linear_solver(form: Form) -> Callable[[csc_array, np.ndarray], np.ndarray]:
    """Return a sparse solver whose ordering and pivots suit the form, with one step of refinement.

    Where every equation has its diagonal, pivots stay there unless they are tiny, so that minimum degree on
    ``A + A^T`` keeps the factors sparse; without the pressure's diagonal, any pivot may be needed, as COLAMD expects.
    """
    pivots: dict[str, Any] = {"permc_spec": "COLAMD"}
    if len(form.second) == len(form.fields):
        pivots = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": TINY, "options": {"SymmetricMode": True}}

    def solve(matrix: csc_array, right: np.ndarray) -> np.ndarray:
        try:
            factor = splu(matrix, **pivots)
        except RuntimeError:
            raise SolveError("the linearised system is singular: the conditions do not fix a solution") from None
        found = factor.solve(right)
        return found + factor.solve(right - matrix @ found)

    return solve


def _marked(indicator: np.ndarray) -> np.ndarray:
    """Return the triangles with the greatest indicators that hold most of the whole."""
    order = np.argsort(-indicator, kind="stable")
    count = np.searchsorted(np.cumsum(indicator[order]), BULK * indicator.sum()) + 1
    return np.sort(order[:count])


def mesh_function(space: Space, y: np.ndarray) -> MeshFunction:
    values = {f: y[dofs] for f, dofs in space.local.items()}
    function = MeshFunction(space.mesh.curved, values, space.degree)
    for pin in space.form.pins:
        column = space.form.fields.index(pin.field)
        values[pin.field] = values[pin.field] + (pin.value - function(pin.point[None])[0, column])
    return function


def _carried(function: MeshFunction, space: Space) -> np.ndarray:
    """Return a solution's values at the nodes of another mesh."""
    y = np.zeros(space.size)
    for k, (f, basis) in enumerate(space.bases.items()):
        y[space.start[f] : space.start[f] + basis.N] = function(basis.doflocs.T)[:, k]
    for pin in space.form.pins:
        first = space.start[pin.field]
        y[first : first + space.bases[pin.field].N] -= y[first]
    return y


def _difference(before: np.ndarray, now: np.ndarray) -> float:
    """Return the greatest relative difference of a field, in L2."""
    return float((np.linalg.norm(now - before, axis=0) / np.maximum(np.linalg.norm(now, axis=0), 1e-300)).max())


def _solution(problem: Residual, function: MeshFunction, notes: Mapping[str, float | str]) -> Solution:
    return Solution(problem, function, function.state(), notes)
