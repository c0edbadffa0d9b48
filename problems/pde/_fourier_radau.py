"""Marching of periodic problems to near rounding, for references."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.polynomial import Legendre, chebyshev

from sciml.errors import SolveError
from sciml.pde.collocation import Pieces, lobatto
from sciml.pde.semilinear import Grid

STAGES = 10
SWEEPS = 30
SMALLEST = 1e-9
"""The shortest step, relative to the whole of time."""


class March:
    """Fourier modes in time, ``c' = L c + N(c, t)``, by collocation at Radau's points.

    On each step c is a polynomial of degree ``STAGES`` that fulfils the equation at the points; the linear part is
    solved exactly mode by mode and N by sweeps. Steps are as long as the last coefficient of the polynomial
    and the convergence of the sweeps allow.

    Args:
        grid: the modes.
        tolerance: of the last coefficients and of the sweeps, relative to the greatest coefficient.
    """

    def __init__(self, grid: Grid, tolerance: float) -> None:
        self.grid, self.tolerance = grid, tolerance
        inner = np.sort((Legendre.basis(STAGES) - Legendre.basis(STAGES - 1)).roots().real)
        self.nodes = np.array([-1.0, *inner[:-1], 1.0])
        line = Pieces(np.array([0.0, 1.0]), self.nodes)
        self.rate = 2 * line.differentiation[1:]
        self.last = np.linalg.inv(chebyshev.chebvander(self.nodes, STAGES))[-2:]
        self.line = line
        fields = len(grid.system.fields)
        operator = np.moveaxis(grid.operator.reshape(fields, fields, -1), -1, 0)
        self.eigenvalues, self.vectors = np.linalg.eig(operator)
        self.inverse = np.linalg.inv(self.vectors)
        self.breaks: list[float] = []
        self.steps: list[np.ndarray] = []
        self._made: dict[float, np.ndarray] = {}

    def run(self, resolved: bool = True) -> bool:
        """March to the end, or until the highest modes no longer vanish; return whether they do.

        Args:
            resolved: whether to stop there.

        Raises:
            SolveError: the smallest step is not small enough.
        """
        start, end = self.grid.system.box.bounds[self.grid.system.t]
        now, t, h = self.grid.initial(), start, (end - start) / 64
        h_least = SMALLEST * (end - start)
        self.breaks = [start]
        if resolved and not self._resolved(now):
            return False
        while t < end - h_least:
            h = min(h, end - t)
            sweeps, step, tail = self._step(now, t, h)
            if step is None or tail > 1:
                h = h / 2
                if h < h_least:
                    raise SolveError(f"no reference: the step at t = {t:g} fell below {h_least:g}")
                continue
            self.steps.append(step)
            t, now = t + h, step[-1]
            self.breaks.append(end if t > end - h_least else t)
            if sweeps < SWEEPS // 2 and tail < 1e-4:
                h = 2 * h
            if resolved and not self._resolved(now):
                return False
        return True

    def _resolved(self, now: np.ndarray) -> bool:
        size = np.abs(now).max(axis=0)
        return size[self.grid.outer].max() < self.tolerance * size.max()

    def _step(self, now: np.ndarray, t: float, h: float) -> tuple[int, np.ndarray | None, float]:
        """Return the sweeps made, values at the nodes (None without convergence), the tail over the tolerance."""
        moments = t + h * (self.nodes[1:] + 1) / 2
        solve = self._solver(h)
        known = self.rate[:, 0].reshape(-1, *[1] * now.ndim) * now
        if self.steps:
            ahead = self.line.matrix(1 + (moments - t) / (t - self.breaks[-2])).toarray()
            guess = np.tensordot(ahead, self.steps[-1], 1)
        else:
            guess = np.broadcast_to(now, (STAGES, *now.shape))
        scale, before = np.abs(now).max(), np.inf
        for sweep in range(SWEEPS):
            rates = np.stack([self.grid.nonlinear(c, m) for c, m in zip(guess, moments, strict=True)])
            new = solve(h * rates - known)
            change = np.abs(new - guess).max() / scale
            guess = new
            if not np.isfinite(change) or change > 1e3 or (sweep > 8 and change > 0.9 * before > self.tolerance):
                break
            if change < 0.1 * self.tolerance:
                step = np.concatenate([now[None], new])
                tail = np.abs(np.tensordot(self.last, step, 1)).max() / scale
                return sweep, step, tail / self.tolerance
            before = change
        return SWEEPS, None, np.inf

    def _solver(self, h: float) -> Callable[[np.ndarray], np.ndarray]:
        if h not in self._made:
            shifted = self.rate[:, 1:] - h * self.eigenvalues[..., None, None] * np.eye(STAGES)
            self._made = {h: np.linalg.inv(shifted)}
        inverse = self._made[h]

        def solve(right: np.ndarray) -> np.ndarray:
            flat = right.reshape(STAGES, right.shape[1], -1)
            turned = np.einsum("mfg,sgm->mfs", self.inverse, flat)
            found = np.matmul(inverse, turned[..., None])[..., 0]
            return np.einsum("mfg,mgs->sfm", self.vectors, found).reshape(right.shape)

        return solve

    def __call__(self, moments: np.ndarray) -> np.ndarray:
        """Return the coefficients at some moments, shape (moments, fields, modes)."""
        matrix = Pieces(np.array(self.breaks), self.nodes).matrix(moments)
        steps = np.concatenate(self.steps)
        return (matrix @ steps.reshape(len(steps), -1)).reshape(len(moments), *steps.shape[1:])


def dyadic(
    function: Callable[[np.ndarray], np.ndarray], breaks: list[float], count: int, tolerance: float
) -> np.ndarray:
    """Return intervals on each of which Chebyshev points carry a function, by halving.

    Args:
        function: of points, shape (n,), to values, shape (n, ...).
        breaks: intervals to begin with.
        count: points per interval.
        tolerance: of the last coefficients, relative to the greatest value.
    """
    last = np.linalg.inv(chebyshev.chebvander(lobatto(count), count - 1))[-3:]
    scale = np.abs(function(np.linspace(breaks[0], breaks[-1], 65))).max()
    done, todo = [breaks[0]], [*pairwise(breaks)][::-1]
    while todo:
        low, high = todo.pop()
        values = function(Pieces(np.array([low, high]), lobatto(count)).nodes)
        if np.abs(np.tensordot(last, values, 1)).max() < tolerance * scale or high - low < SMALLEST * breaks[-1]:
            done.append(high)
        else:
            todo += [((low + high) / 2, high), (low, (low + high) / 2)]
    return np.array(done)
