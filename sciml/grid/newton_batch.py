"""Newton's method for the load flow of many scenarios, one in each lane of the processor's vectors."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.sparse import csr_array

from sciml.errors import UserError, missing
from sciml.grid import _lu
from sciml.grid.balance import newton
from sciml.grid.powerflow import PowerFlow
from sciml.grid.powergrid import PowerGrid

if TYPE_CHECKING:
    from sciml.grid._certificate import Branches
    from sciml.grid._newton_blocks import Layout
    from sciml.grid._newton_kernel import Circuit, Work

_STEPS = 6
"""From the nominal voltages; a scenario that needs more goes on from the DC load flow among others of its kind."""
_AIM = 0.9
"""Of the tolerance, so that the certificate, whose sums are rounded otherwise, does not exceed it."""
_GROWTH = 1e6
"""Of a pivot, from which on a load flow not found is looked for with pivoting."""


@dataclass(frozen=True)
class LoadFlows:
    """Load flows of n scenarios and what certifies them.

    Args:
        voltages: complex, in p.u., shape (n, buses); NaN where islanded, as they stand where not converged.
        mismatch: greatest |ΔP|, |ΔQ|, deviation from a set-point or imaginary part at the slack, in p.u.,
            recomputed from the voltages branch by branch, shape (n,).
        iterations: steps from the last start, shape (n,); none where islanded.
        converged: whether the mismatch is within the tolerance, shape (n,), bool.
        islanded: whether a bus is cut off from the slack, shape (n,), bool.
        pivoted: whether the solver with pivoting was needed, shape (n,), bool.
    """

    voltages: np.ndarray
    mismatch: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    islanded: np.ndarray
    pivoted: np.ndarray


class NewtonBatch:
    """Solves many scenarios of one grid side by side; what depends on the grid alone is done once.

    J(x_k) (x_{k+1} - x_k) = -F(x_k)

    The order of elimination and the pattern of the factors are those of the grid's buses, two unknowns where the
    magnitude is free and one where it is held; every scenario of a vector goes through the same sparse LU without
    pivoting. An outage changes admittances and no pattern. Voltages are kept as e + jf, with the Jacobian by angle
    and logarithm of the magnitude, and a step in the angle turns them by 2 atan(Δθ/2), which needs no
    trigonometry. A pivot that grows spoils a step and shows as mismatch: such a scenario is solved again from the
    DC load flow, and then with pivoting. Source: W. F. Tinney and C. E. Hart, Power flow solution by Newton's
    method, 1967, doi:10.1109/TPAS.1967.291823.

    Args:
        grid: the arrays.
        tolerance: greatest mismatch at which a scenario is solved, in p.u.
        iterations: the most steps.
        threads: over which scenarios are spread.

    Raises:
        UserError: numba is not installed.
    """

    def __init__(self, grid: PowerGrid, tolerance: float = 1e-8, iterations: int = 20, threads: int = 1) -> None:
        try:
            import numba  # noqa: F401
        except ImportError:
            raise missing("newton_batch", "numba", "grid") from None
        self.grid = grid
        self.tolerance = tolerance
        self.iterations = iterations
        self.threads = threads
        self._flow = PowerFlow(grid)
        self._circuit, self._tape, self._layout = _arranged(grid)
        self._branches = _branches(grid)
        self._known = np.full(len(grid.source), -1, np.int8)
        nominal = grid.nominal[None]
        self._nominal = self.solve(nominal, self._from_dc(nominal)).voltages

    def solve(self, inputs: np.ndarray, start: np.ndarray | None = None) -> LoadFlows:
        """Return the load flow of each scenario.

        Args:
            inputs: shape (n, inputs).
            start: complex voltages to start from, shape (n, buses) or (1, buses); those of the nominal state
                otherwise. Magnitudes that are held come from the inputs.

        Raises:
            UserError: inputs of another width.
        """
        if inputs.ndim != 2 or inputs.shape[1] != sum(self.grid.sections):
            raise UserError(f"scenarios have shape {inputs.shape}; expected (n, {sum(self.grid.sections)})")
        inputs = np.ascontiguousarray(inputs, dtype=float)
        n = len(inputs)
        islanded, extents, changed = self._survey(inputs)
        voltages = np.full((n, len(self.grid.numbers)), np.nan, complex)
        iterations = np.zeros(n, np.int64)
        growth = np.ones(n)
        found = voltages, iterations, growth
        rows = np.flatnonzero(~islanded)
        self._newton(inputs, rows, self._nominal if start is None else start, extents, changed, _STEPS, found)
        left = rows[iterations[rows] < 0]
        left = left[np.isfinite(inputs[left]).all(axis=1)]
        if len(left):
            starts = np.zeros_like(voltages)
            starts[left] = self._from_dc(inputs[left])
            self._newton(inputs, left, starts, extents, changed, self.iterations, found)
        left = left[(iterations[left] < 0) & ~(growth[left] < _GROWTH)]
        if len(left):
            again = newton(self._flow, torch.from_numpy(inputs[left]), self.tolerance, self.iterations, linear=True)
            voltages[left], iterations[left] = self._flow.voltages(again.state), again.iterations.numpy()
        iterations[iterations < 0] = self.iterations
        mismatch = self.certified(inputs, voltages)
        pivoted = np.isin(np.arange(n), left)
        return LoadFlows(voltages, mismatch, iterations, mismatch <= self.tolerance, islanded, pivoted)

    def one_step(self, inputs: np.ndarray) -> np.ndarray:
        """Return the voltages one step from the DC load flow, shape (n, buses); NaN where islanded.

        Args:
            inputs: shape (n, inputs).
        """
        islanded, extents, changed = self._survey(inputs)
        rows, n = np.flatnonzero(~islanded), len(inputs)
        voltages = np.full((n, len(self.grid.numbers)), np.nan, complex)
        starts = np.full_like(voltages, np.nan)
        starts[rows] = self._from_dc(inputs[rows])
        self._newton(inputs, rows, starts, extents, changed, 1, (voltages, np.zeros(n, np.int64), np.ones(n)))
        return voltages

    def certified(self, inputs: np.ndarray, voltages: np.ndarray) -> np.ndarray:
        """Return how far voltages miss the equations, as ``LoadFlows.mismatch`` says, shape (n,).

        Args:
            inputs: scenarios, shape (n, inputs).
            voltages: complex, in p.u., shape (n, buses).
        """
        from sciml.grid._certificate import certify

        mismatch = np.empty(len(inputs))
        buses, parts = len(self.grid.numbers), voltages.view(float)

        def part(rows: slice) -> None:
            memory = _aligned(2 * buses), _aligned(2 * buses)
            certify(self._branches, inputs[rows], parts[rows], *memory, mismatch[rows])

        self._spread(part, len(inputs))
        return mismatch

    def _survey(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Return which scenarios are islanded, where their changes are, and the most branches that one changes."""
        from sciml.grid._certificate import survey

        islanded, extents = np.empty(len(inputs), bool), np.empty((len(inputs), 2), np.int64)
        ends = self._branches.source, self._branches.target
        given = *ends, len(self.grid.numbers), self._layout.status, inputs, self._known
        return islanded, extents, survey(*given, islanded, extents)

    def _newton(
        self,
        inputs: np.ndarray,
        rows: np.ndarray,
        starts: np.ndarray,
        extents: np.ndarray,
        changed: int,
        most: int,
        found: tuple[np.ndarray, np.ndarray, np.ndarray],
    ) -> None:
        """Solve rows of the inputs in place; iterations of those that do not converge are -1."""
        from sciml.grid._lanes import WIDTH
        from sciml.grid._newton_blocks import solve
        from sciml.grid._newton_kernel import Changes

        room = 4 * WIDTH * changed + 1
        voltages, iterations, growth = found
        parts = starts.view(float), voltages.view(float)

        def part(chosen: slice) -> None:
            changes = Changes(np.zeros(room, np.int32), np.zeros(room, np.int32), np.zeros(room), np.zeros(room))
            memory = _work(len(self.grid.numbers), int(self._tape.slot[-1]))
            grid = self._circuit, self._tape, self._layout, memory, changes, extents
            solve(*grid, inputs, rows[chosen], parts[0], _AIM * self.tolerance, most, parts[1], iterations, growth)

        self._spread(part, len(rows))

    def _spread(self, part: Callable[[slice], None], n: int) -> None:
        """Run over slices of ``range(n)``, one for each thread."""
        from sciml.grid._lanes import WIDTH

        each = WIDTH * -(-n // (WIDTH * self.threads))
        slices = [slice(k, k + each) for k in range(0, n, each)] if n else []
        if len(slices) <= 1:
            for one in slices:
                part(one)
            return
        with ThreadPoolExecutor(len(slices)) as pool:
            list(pool.map(part, slices))

    def _from_dc(self, inputs: np.ndarray) -> np.ndarray:
        """Return the voltages of the DC load flow, magnitudes of one, shape (n, buses)."""
        return self._flow.voltages(self._flow.linear_start(self._flow.read(torch.from_numpy(inputs))))


def outputs(voltages: np.ndarray) -> np.ndarray:
    """Return magnitudes in p.u., then angles in degrees, of complex voltages."""
    return np.concatenate([np.abs(voltages), np.degrees(np.angle(voltages))], axis=1)


def voltages(outputs: np.ndarray) -> np.ndarray:
    """Return complex voltages of magnitudes in p.u. and then angles in degrees, the inverse of ``outputs``."""
    vm, va = np.split(outputs, 2, axis=1)
    return vm * np.exp(1j * np.radians(va))


def _branches(grid: PowerGrid) -> "Branches":
    from sciml.grid._certificate import Branches

    free = ~np.isin(np.arange(len(grid.numbers)), grid.regulated)
    ends, shunt = (grid.source.astype(np.int64), grid.target.astype(np.int64)), grid.shunt.astype(complex)
    buses = grid.loads.astype(np.int64), grid.regulated.astype(np.int64)
    return Branches(*ends, np.ascontiguousarray(grid.admittances), shunt, *buses, free, float(grid.base))


def _arranged(grid: PowerGrid) -> "tuple[Circuit, _lu.Tape, Layout]":
    """Return the grid in the order of its elimination."""
    from sciml.grid._newton_blocks import Layout
    from sciml.grid._newton_kernel import Circuit

    buses = len(grid.numbers)
    ends = np.r_[grid.source, grid.target, range(buses)], np.r_[grid.target, grid.source, range(buses)]
    pattern = csr_array((np.ones(len(ends[0])), ends), (buses, buses))
    free = np.flatnonzero(np.arange(buses) != grid.slack)
    order = np.r_[free[_lu.ordered(csr_array(pattern[free][:, free]))], grid.slack]
    place = np.argsort(order)
    pattern = csr_array(pattern[order][:, order])
    pattern.sort_indices()
    size = np.where(np.isin(order[:-1], grid.regulated), 1, 2)
    tape = _lu.tape(csr_array(pattern[:-1, :-1]), size)

    start, column, entry = [0], [], np.full(len(tape.column), -1)
    at: dict[tuple[int, int], int] = {}
    for i in range(buses - 1):
        present = set(pattern.indices[pattern.indptr[i] : pattern.indptr[i + 1]].tolist())
        row: list[int] = tape.column[tape.start[i] : tape.start[i + 1]].tolist()
        for k, j in enumerate(row + [buses - 1] * (buses - 1 in present)):
            if j in present:
                at[i, j] = len(column)
                column.append(j)
                if j < buses - 1:
                    entry[tape.start[i] + k] = at[i, j]
        start.append(len(column))

    pairs = zip(place[grid.source].tolist(), place[grid.target].tolist(), strict=True)
    parts = np.array([[at.get(key, -1) for key in ((i, i), (i, j), (j, i), (j, j))] for i, j in pairs])
    adds = grid.admittances.reshape(-1, 4)
    y = np.zeros(len(column) + 1, complex)  # the last one takes what belongs to the slack's row
    np.add.at(y, parts, adds * grid.in_service[:, None])
    np.add.at(y, [at.get((i, i), -1) for i in place.tolist()], grid.shunt)
    order, starts, columns = (np.array(a, np.int32) for a in (order, start, column))
    g, b = np.real(y[:-1]).copy(), np.imag(y[:-1]).copy()
    circuit = Circuit(order, starts, columns, g, b, entry.astype(np.int32))
    status = grid.in_service.astype(float)
    layout = Layout(
        float(grid.base), place[grid.loads], place[grid.regulated], sum(grid.sections[:-1]), status,
        parts.astype(np.int32), np.ascontiguousarray(adds),
    )  # fmt: skip
    return circuit, tape, layout


def _work(buses: int, factors: int) -> "Work":
    from sciml.grid._newton_kernel import Work

    return Work(*(_aligned(slots) for slots in (buses, buses, 2 * buses, 2 * buses, 2 * buses, factors, 2)))


def _aligned(slots: int) -> np.ndarray:
    """Return zeros for ``slots`` vectors, none across two lines of the cache."""
    from sciml.grid._lanes import WIDTH

    line = 64
    memory = np.zeros(slots * WIDTH + line // 8)
    return memory[-memory.ctypes.data % line // 8 :][: slots * WIDTH]
