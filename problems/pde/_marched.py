"""Periodic problems without a closed form, whose reference is marched in Fourier space and stored."""

import json
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

import h5py
import numpy as np
from numpy.polynomial import chebyshev
from scipy import fft

from sciml.pde.collocation import Fourier, GridFunction, Pieces, lobatto
from sciml.pde.fields import Derivative
from sciml.pde.semilinear import Grid, Semilinear
from sciml.references import reference_file
from sciml.views.residual import Residual

from ._fourier_radau import March, dyadic

COARSEST = 16
COUNT = 16
"""Chebyshev points of each interval of time, and of space in one dimension."""
FLAT = 1e-13
"""The last Chebyshev coefficients in space, relative to the greatest value."""


class Modes:
    """The Fourier modes of a solution at Chebyshev points of intervals of time.

    Args:
        breaks: ends of the intervals.
        kept: the wave numbers of the modes kept, in units of one per period, shape (modes, space axes); the last
            is not negative.
        values: shape (moments, fields, modes).
    """

    def __init__(self, breaks: np.ndarray, kept: np.ndarray, values: np.ndarray) -> None:
        self.breaks, self.kept, self.values = breaks, kept, values

    @classmethod
    def of(cls, march: March, tolerance: float) -> "Modes":
        """Return the modes above a tolerance at as few moments as carry them."""
        breaks = dyadic(march, [march.breaks[0], march.breaks[-1]], COUNT, tolerance)
        values = march(Pieces(breaks, lobatto(COUNT)).nodes)
        size = np.abs(values).max(axis=(0, 1))
        where = size > 0.01 * tolerance * size.max()
        signed = fft.fftfreq(size.shape[0], 1 / size.shape[0]).round().astype(int) if size.ndim > 1 else None
        kept = np.argwhere(where)
        if signed is not None:
            kept[:, :-1] = signed[kept[:, :-1]]
        return cls(breaks, kept, values[..., where])

    @classmethod
    def read(cls, file: h5py.File) -> "Modes":
        """Return the modes of a file, which holds their values or, smaller, series of integers."""
        breaks, kept = np.asarray(file["breaks"]), np.asarray(file["wave_numbers"])
        if "series" in file:
            return cls.sum(breaks, kept, np.asarray(file["series"]), float(np.asarray(file.attrs["quantum"])))
        return cls(breaks, kept, np.asarray(file["modes"]))

    @classmethod
    def sum(cls, breaks: np.ndarray, kept: np.ndarray, series: np.ndarray, quantum: float) -> "Modes":
        """Return the modes of which ``series`` are the Chebyshev coefficients in multiples of a quantum."""
        flat = quantum * series.reshape(len(breaks) - 1, COUNT, -1)
        values = np.matmul(chebyshev.chebvander(lobatto(COUNT), COUNT - 1), flat)
        return cls(breaks, kept, values.view(complex).reshape(-1, *series.shape[2:-1]))

    def series(self, quantum: float) -> np.ndarray:
        """Return Chebyshev coefficients in multiples of a quantum, shape (intervals, COUNT, fields, modes, 2)."""
        flat = np.ascontiguousarray(self.values).view(float).reshape(len(self.breaks) - 1, COUNT, -1)
        found = np.matmul(Pieces(self.breaks, lobatto(COUNT)).coefficients, flat) / quantum
        return np.round(found).astype(int).reshape(len(flat), COUNT, *self.values.shape[1:], 2)

    def function(self, problem: Residual) -> GridFunction:
        """Return the solution that they make."""
        half, d = int(np.abs(self.kept).max()), self.kept.shape[1]
        if d == 1:
            return self._pieces(problem)
        n = 2 * half + 1
        whole = np.zeros((*self.values.shape[:2], *[n] * (d - 1), half + 1), dtype=complex)
        whole[(..., *self.kept.T)] = self.values
        nodal = np.asarray(fft.irfftn(whole, [n] * d, axes=range(-d, 0), norm="forward"))
        bounds = dict(zip(problem.region.axes, problem.region.bounds, strict=True))
        lines = tuple(
            Pieces(self.breaks, lobatto(COUNT)) if a == "t" else Fourier(ends[0], ends[1], n)
            for a, ends in bounds.items()
        )
        at = problem.region.index("t")
        names = [f.name for f in problem.fields]
        return GridFunction(
            dict.fromkeys(names, lines), {f: np.moveaxis(nodal[:, k], 0, at) for k, f in enumerate(names)}
        )

    def _pieces(self, problem: Residual) -> GridFunction:
        """Return a solution in one dimension on pieces, where its value at a point is cheap."""
        space = 1 - problem.region.index("t")
        low, high = problem.region.bounds[space]
        flat = self.values.reshape(-1, self.values.shape[-1])

        def at(x: np.ndarray) -> np.ndarray:
            phase = 2 * np.pi / (high - low) * np.outer(self.kept[:, 0], x - low)
            twice = np.where(self.kept == 0, 1, 2)
            return (np.real(flat) @ (twice * np.cos(phase)) - np.imag(flat) @ (twice * np.sin(phase))).T

        x = Pieces(dyadic(at, [*np.linspace(low, high, 9)], COUNT, FLAT), lobatto(COUNT))
        values = at(x.nodes).T.reshape(*self.values.shape[:2], -1)
        lines = (x, Pieces(self.breaks, lobatto(COUNT)))[:: 1 if space == 0 else -1]
        names = [f.name for f in problem.fields]
        return GridFunction(
            dict.fromkeys(names, lines),
            {f: values[:, k].T if space == 0 else values[:, k] for k, f in enumerate(names)},
        )


def marched(problem: Residual, tolerance: float, modes: int = COARSEST) -> March:
    """March a problem with so many modes that the highest vanish."""
    system = Semilinear(problem)
    while True:
        march = March(Grid(system, modes), tolerance)
        if march.run():
            return march
        modes *= 2


class Marched(Residual):
    """A periodic problem; its reference is read where its settings are those of a stored file, and else marched.

    The stated error of the reference is what a second discretisation confirmed of the stored files. With other
    settings modes are added until the highest vanish and steps are as fine as ``tolerance`` asks, but nothing
    else confirms the reference, and rounding grows as the solution's own instability has it.
    """

    stored: ClassVar[Sequence[tuple[str, str]]] = ()
    """Names and checksums of files that ``scripts/make_pde_references.py`` made."""
    tolerance: ClassVar[float] = 1e-13
    """Of each step, relative to the greatest mode."""

    @cached_property
    def answer(self) -> GridFunction:
        """The reference solution."""
        for name, checksum in self.stored:
            with h5py.File(reference_file(name, checksum)) as file:
                if json.loads(str(file.attrs["settings"])) == dict(self.settings):
                    return Modes.read(file).function(self)
        return Modes.of(marched(self.smooth(), self.tolerance), self.tolerance).function(self)

    def smooth(self) -> Residual:
        """Return the problem that is marched: the part of this one that no closed form gives."""
        return self

    def reference(self, points: np.ndarray) -> np.ndarray:
        wanted = [Derivative(f.name, (0,) * points.shape[1]) for f in self.fields]
        found = self.answer(points, wanted)
        return np.stack([found[d] for d in wanted], axis=1)
