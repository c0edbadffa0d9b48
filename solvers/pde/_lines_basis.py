"""Sines of whole wave vectors on a periodic box: features whose coefficients least squares gives at once."""

from collections.abc import Sequence
from functools import cached_property
from typing import Self, cast

import numpy as np
from scipy import fft

from sciml.pde.semilinear import Semilinear, Waves

LOWEST = 8
"""The highest wave number along each axis to begin with."""


class Sines(Waves):
    """All pairs ``cos(k . z)``, ``sin(k . z)`` whose wave vectors k lie in an ellipsoid, with z from the box's corner.

    Fields are ``Re Σ_k c_k exp(i k . z)``, k from one half of space. They are collocated on equidistant points: there
    sines are orthogonal, so the pseudoinverse is the scaled adjoint, and both are Fourier transforms.

    Args:
        system: the problem.
        reach: the ellipsoid's half axes, in waves per period.
        seed: of the points held out, which are those of collocation moved by a part of their distance.
        known: wave vectors whose coefficients come first, shape (count, axes).
    """

    def __init__(self, system: Semilinear, reach: Sequence[int], seed: int, known: np.ndarray | None = None) -> None:
        self.reach, self.seed = tuple(reach), seed
        self.numbers = _vectors(self.reach, np.zeros((0, len(reach)), dtype=int) if known is None else known)
        bounds = np.array([system.box.bounds[system.box.index(a)] for a in system.axes])
        self.extent = np.ptp(bounds, axis=1)
        wanted = (int(np.ceil(system.density * (2 * m + 1))) for m in reach)
        self.points = [cast(int, fft.next_fast_len(n, real=True)) for n in wanted]
        self.padded = (*self.points[:-1], self.points[-1] // 2 + 1)
        flat = self.numbers[:, -1] == 0
        self.half = np.where(self.numbers.any(axis=1), 0.5, 1.0)
        self.flat, self.at, self.mirrored = flat, tuple(self.numbers.T), tuple(-self.numbers[flat].T)  # -1 is the last
        angular = 2 * np.pi * self.numbers / self.extent
        places = [a + w * np.arange(n) / n for (a, _), w, n in zip(bounds, self.extent, self.points, strict=True)]
        nodes = np.meshgrid(*places, indexing="ij")
        super().__init__(system, *(dict(zip(system.axes, g, strict=True)) for g in (angular.T, nodes)))
        moved = np.random.default_rng([seed, 1]).uniform(0.25, 0.75, len(reach)) * self.extent / self.points
        self.turn = np.exp(1j * (angular @ moved))
        self.held_out = {a: x + s for (a, x), s in zip(self.nodes.items(), moved, strict=True)}

    @property
    def count(self) -> int:
        return 2 * len(self.numbers) - 1

    def values(self, coefficients: np.ndarray) -> np.ndarray:
        halves = self.half * coefficients
        padded = np.zeros((*coefficients.shape[:-1], *self.padded), dtype=complex)
        padded[(..., *self.mirrored)] = np.conj(halves[..., self.flat])
        padded[(..., *self.at)] = halves
        return np.asarray(fft.irfftn(padded, self.points, axes=range(-len(self.points), 0), norm="forward"))

    def coefficients(self, values: np.ndarray) -> np.ndarray:
        modes = np.asarray(fft.rfftn(values, axes=range(-len(self.points), 0), norm="forward"))
        return modes[(..., *self.at)] / self.half

    def left_out(self, coefficients: np.ndarray, t: float) -> np.ndarray:
        """Return the root mean square of the residual at points held out, scaled to an error of the fields.

        At the start what is left of the initial data there is added.
        """
        missed = self._missed(coefficients, t)
        return np.sqrt(np.mean(np.square(missed), axis=tuple(range(1, missed.ndim))))

    def finer(self, coefficients: np.ndarray, t: float) -> Self:
        """Return about twice the features, the ellipsoid longer along the axes that the residual shows too short."""
        size = np.sum(np.abs(self._modes(self._missed(coefficients, t))) ** 2, axis=0)
        size[..., 1:] *= 2  # the transform has one half of space
        ratios = [np.abs(n) / m for n, m in zip(np.meshgrid(*self._resolved, indexing="ij"), self.reach, strict=True)]
        ahead = np.where(np.sum(np.square(ratios), axis=0) > 1, np.argmax(ratios, axis=0), -1)
        shares = np.array([size[ahead == axis].sum() for axis in range(len(self.reach))])
        growth = 2 ** (1 / len(self.reach))
        short = shares >= shares.max() / 2
        reach = [max(m + 1, round(growth * m)) if s else m for m, s in zip(self.reach, short, strict=True)]
        return type(self)(self.system, reach, self.seed, self.numbers)

    def adopt(self, coefficients: np.ndarray) -> np.ndarray:
        gap = len(self.numbers) - coefficients.shape[-1]
        return np.pad(coefficients, [(0, 0)] * (coefficients.ndim - 1) + [(0, gap)])

    def _missed(self, coefficients: np.ndarray, t: float) -> np.ndarray:
        """Return at the points held out the fields' error if the residual stood and the linear part damped it."""
        turned = coefficients * self.turn
        residual = self.rates(turned, t, self.held_out) - self.values(self.nonlinear(coefficients, t) * self.turn)
        damped = self._modes(residual) / self._damping
        missed = np.asarray(fft.irfftn(damped, self.points, axes=range(1, residual.ndim)))
        if t == self.system.box.bounds[self.system.t, 0]:
            missed = missed + self.data(self.held_out) - self.values(turned)
        return missed

    def _modes(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(fft.rfftn(values, axes=range(1, values.ndim)))

    @property
    def _resolved(self) -> list[np.ndarray]:
        """By axis the wave numbers that the points tell apart."""
        signed = [fft.fftfreq(n, 1 / n) for n in self.points[:-1]]
        return [*signed, fft.rfftfreq(self.points[-1], 1 / self.points[-1])]

    @cached_property
    def _damping(self) -> np.ndarray:
        """Rates at which the linear part damps waves, at least one over the whole of time, shape (fields, *waves)."""
        waves = (2 * np.pi * n / length for n, length in zip(self._resolved, self.extent, strict=True))
        linear = self.linear(dict(zip(self.system.axes, np.meshgrid(*waves, indexing="ij"), strict=True)))
        own = np.stack([linear[i, i].real for i in range(len(linear))])
        return np.maximum(-own, 1 / np.ptp(self.system.box.bounds[self.system.t]))


def _vectors(reach: Sequence[int], known: np.ndarray) -> np.ndarray:
    """Return the whole vectors of an ellipsoid, of k and -k one; those that are known come first."""
    ranges = [np.arange(-m, m + 1) for m in reach[:-1]] + [np.arange(reach[-1] + 1)]
    every = np.stack([g.ravel() for g in np.meshgrid(*ranges, indexing="ij")], axis=1)
    inside = np.sum((every / np.array(reach)) ** 2, axis=1) <= 1
    last = every[np.arange(len(every)), every.shape[1] - 1 - np.argmax(every[:, ::-1] != 0, axis=1)]
    new = set(map(tuple, every[inside & (last >= 0)].tolist())) - set(map(tuple, known.tolist()))
    return np.concatenate([known, np.array(sorted(new), dtype=int).reshape(-1, len(reach))])
