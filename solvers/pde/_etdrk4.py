"""Exponential time differencing of order four for periodic problems, with adaptive steps and modes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.polynomial import chebyshev
from scipy.linalg import expm

from sciml.errors import SolveError
from sciml.pde.collocation import Fourier, GridFunction, Line, Pieces
from sciml.pde.semilinear import Grid, Waves

Modes = TypeVar("Modes", bound=Waves)
Report = Callable[[float, Mapping[str, float]], None]
CIRCLE = 32
"""Points of the contour on which the φ functions are averaged."""
SUBSTEPS = 8
"""Steps of one length between two checks; a polynomial of this degree joins them."""
SMALLEST = 1e-9
"""The shortest interval between checks, relative to the whole of time."""
FLOOR = 1e-3
"""A field smaller than this share of the greatest one is measured against that share."""
TINY = 1e-300
FEWEST = 8
"""The highest wave number of a grid to begin with."""
REFERENCE = np.linspace(-1, 1, SUBSTEPS + 1)
LAST = np.linalg.inv(chebyshev.chebvander(REFERENCE, SUBSTEPS))[-2:]
JOIN = Pieces(np.array([-1.0, 1.0]), REFERENCE[::2]).matrix(REFERENCE).toarray()
"""From every other moment of an interval to all."""


class Step:
    """One step of ETDRK4 for ``c' = L c + N(c, t)``: L exactly, N by four stages.

    The weights are φ functions of hL, which cancel when summed as written: for each mode of a diagonal L they are
    averaged over a circle around it; for fields coupled by L they are blocks of the exponential of a larger matrix.
    Sources: S. M. Cox and P. C. Matthews, Exponential time differencing for stiff systems, J. Comput. Phys. 176
    (2002), doi:10.1006/jcph.2002.6995; A.-K. Kassam and L. N. Trefethen, Fourth-order time-stepping for stiff PDEs,
    SIAM J. Sci. Comput. 26 (2005), doi:10.1137/S1064827502410633.

    Args:
        grid: the modes.
        h: the length of the step.
    """

    def __init__(self, grid: Waves, h: float) -> None:
        self.nonlinear, self.h = grid.nonlinear, h
        phi = _blocks if grid.coupled else _diagonal
        self.half, one, _, _ = phi(grid, h / 2)
        self.quarter = h / 2 * one
        self.whole, one, two, three = phi(grid, h)
        self.first = h * (one - 3 * two + 4 * three)
        self.middle = h * (2 * two - 4 * three)
        self.last = h * (4 * three - two)
        self.apply = _by_block if grid.coupled else np.multiply

    def __call__(self, c: np.ndarray, t: float) -> np.ndarray:
        """Return the coefficients a step later."""
        start, middle = self.nonlinear(c, t), t + self.h / 2
        forward = self.apply(self.half, c)
        a = forward + self.apply(self.quarter, start)
        at_a = self.nonlinear(a, middle)
        at_b = self.nonlinear(forward + self.apply(self.quarter, at_a), middle)
        c_ = self.apply(self.half, a) + self.apply(self.quarter, 2 * at_b - start)
        at_c = self.nonlinear(c_, t + self.h)
        new = self.apply(self.whole, c) + self.apply(self.first, start) + self.apply(self.middle, at_a + at_b)
        return new + self.apply(self.last, at_c)


def _diagonal(grid: Waves, h: float) -> tuple[np.ndarray, ...]:
    """Return exp, φ₁, φ₂, φ₃ of hL for each field and mode, shape (fields, *modes)."""
    z = h * np.stack([grid.operator[i, i] for i in range(len(grid.operator))])
    one, two, three = (np.zeros_like(z) for _ in range(3))
    for angle in 2 * np.pi * (np.arange(CIRCLE) + 0.5) / CIRCLE:
        r = z + np.exp(1j * angle)
        e = np.exp(r)
        one += (e - 1) / r / CIRCLE
        two += (e - 1 - r) / r**2 / CIRCLE
        three += (e - 1 - r - r**2 / 2) / r**3 / CIRCLE
    return np.exp(z), one, two, three


def _blocks(grid: Waves, h: float) -> tuple[np.ndarray, ...]:
    """Return exp, φ₁, φ₂, φ₃ of hL for each mode, shape (fields, fields, *modes)."""
    n = len(grid.operator)
    chain = np.zeros((math.prod(grid.shape), 4 * n, 4 * n), dtype=complex)
    chain[:, :n, :n] = h * np.moveaxis(grid.operator.reshape(n, n, -1), -1, 0)
    for k in range(3):
        chain[:, k * n : (k + 1) * n, (k + 1) * n : (k + 2) * n] = np.eye(n)
    top = np.moveaxis(expm(chain)[:, :n], 0, -1).reshape(n, 4 * n, *grid.shape)
    return tuple(top[:, k * n : (k + 1) * n] for k in range(4))


def _by_block(matrices: np.ndarray, c: np.ndarray) -> np.ndarray:
    return np.einsum("fg...,g...->f...", matrices, c)


@dataclass
class Interval:
    """Coefficients at equidistant moments from ``start`` to ``end``, shape (SUBSTEPS + 1, fields, *modes)."""

    start: float
    end: float
    coefficients: np.ndarray


class Exponential(Generic[Modes]):
    """Marches a periodic problem; intervals are halved, and modes added, where the tolerance asks for it.

    On each interval eight steps are compared with four of twice the length; a fifteenth of the difference estimates
    their error and corrects it (local extrapolation). A polynomial joins the nine moments, its last coefficients small.

    Args:
        grid: the modes to begin with.
        tolerance: of an interval's error, of the last coefficients in time and of what too few modes leave out,
            relative to the greatest value of each field.
        unknowns: the most coefficients at one instant, all fields together.
    """

    def __init__(self, grid: Modes, tolerance: float, unknowns: int) -> None:
        self.grid, self.tolerance, self.unknowns = grid, tolerance, unknowns
        self.begin, self.end = grid.system.box.bounds[grid.system.t]
        self.made: dict[float, Step] = {}
        self.intervals: list[Interval] = []
        self.rejected = 0
        self.left_out = 0.0
        """The greatest share that the modes left out."""
        self.missing = 0.0
        """The same where there were not enough unknowns for more."""

    def run(self, report: Report) -> Self:
        """March to the end.

        Raises:
            SolveError: the smallest interval is not small enough.
        """
        c = self.grid.initial()
        while self._refined(c, self.begin):
            c = self.grid.initial()
        whole = self.end - self.begin
        halvings, done, scale = 4, 0, np.zeros(len(c))
        while done < 2**halvings:
            length = whole / 2**halvings
            t = self.begin + done * length
            scale = np.maximum(scale, self.grid.sizes(c))
            steps, error = self._interval(c, t, length / SUBSTEPS, scale)
            if error <= 1 and self._refined(steps[-1], t + length):
                c, self.rejected = self.grid.adopt(c), self.rejected + 1
            elif error <= 1:
                self.intervals.append(Interval(t, t + length, steps))
                c, done = steps[-1], done + 1
                report(done / 2**halvings, {"intervals": len(self.intervals), "modes": self.grid.count})
                if error < 1 / 40 and done % 2 == 0 and halvings:
                    halvings, done = halvings - 1, done // 2
            elif 2.0**-halvings < SMALLEST:
                raise SolveError(f"the step at t = {t:g} fell below {length:g}; the solution may blow up")
            else:
                halvings, done, self.rejected = halvings + 1, 2 * done, self.rejected + 1
        return self

    def _interval(self, c: np.ndarray, t: float, h: float, scale: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the coefficients at the moments of an interval, and its error over the tolerance."""
        fine, coarse = [c], [c]
        with np.errstate(over="ignore", invalid="ignore"):
            for k in range(SUBSTEPS):
                fine.append(self._step(h)(fine[-1], t + k * h))
            for k in range(0, SUBSTEPS, 2):
                coarse.append(self._step(2 * h)(coarse[-1], t + k * h))
        steps = np.stack(fine)
        if not (np.isfinite(fine[-1]).all() and np.isfinite(coarse[-1]).all()):
            return steps, math.inf
        correction = (steps[::2] - np.stack(coarse)) / 15
        steps = steps + np.tensordot(JOIN, correction, 1)
        tail = np.maximum(*map(self.grid.sizes, np.tensordot(LAST, steps, 1)))
        floor = np.maximum(scale, FLOOR * scale.max())
        return steps, float((np.maximum(self.grid.sizes(correction[-1]), tail) / floor).max() / self.tolerance)

    def _step(self, h: float) -> Step:
        if h not in self.made:
            self.made[h] = Step(self.grid, h)
        return self.made[h]

    def _refined(self, c: np.ndarray, t: float) -> bool:
        """Add modes and return whether that was needed, and not more than there may be."""
        scale = self.grid.sizes(c)
        share = self.grid.left_out(c, t) / np.maximum(np.maximum(scale, FLOOR * scale.max()), TINY)
        if (share <= self.tolerance).all():
            self.left_out = max(self.left_out, float(share.max()))
            return False
        finer = self.grid.finer(c, t)
        if len(c) * finer.count > self.unknowns:
            self.missing = self.left_out = max(self.left_out, float(share.max()))
            return False
        self.grid, self.made = finer, {}
        return True


def function(made: Exponential[Grid]) -> GridFunction:
    """Return a march's solution on the grid of its modes and moments."""
    grid, system = made.grid, made.grid.system
    n = 2 * grid.modes + 1
    moments = Pieces(np.array([made.begin, *(i.end for i in made.intervals)]), REFERENCE)
    lines: list[Line] = [
        moments if a == "t" else Fourier(ends[0], ends[1], n)
        for a, ends in zip(system.box.axes, system.box.bounds, strict=True)
    ]
    nodal = np.concatenate([grid.nodal(grid.adopt(i.coefficients)) for i in made.intervals])
    values = {f: np.moveaxis(nodal[:, k], 0, system.t) for k, f in enumerate(system.fields)}
    return GridFunction(dict.fromkeys(values, tuple(lines)), values)
