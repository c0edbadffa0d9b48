"""Time marching of collocated problems by Radau IIA, halving pieces that a step leaves unresolved."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.polynomial import Legendre, legendre

from sciml.errors import SolveError
from sciml.pde.collocation import Pieces

from ._collocated import System
from ._newton import Factor

STAGES = 7
SMALLEST = 1e-11
"""The smallest step, relative to the whole of time."""
CLASH = 1000 * SMALLEST
"""So long after the start the smallest step is taken whatever its error: what clashes there dies out."""
FIRST = 20
"""The share of time that the first step tries is one over this."""
FINEST = 2e-13
"""The smallest tolerance; rounding is not far below."""
ITERATIONS = 12
FLOOR = 1e-3
"""A field smaller than this share of the greatest one is measured against that share."""

Report = Callable[[float, Mapping[str, float]], None]


class Tableau:
    """The Radau IIA method: collocation at s nodes of a step, of order ``2 s - 1`` at its end.

    Source: E. Hairer and G. Wanner, Stiff differential equations solved by Radau methods, J. Comput. Appl.
    Math. 111 (1999), doi:10.1016/S0377-0427(99)00134-X.

    Args:
        stages: s.
    """

    def __init__(self, stages: int) -> None:
        inner = np.sort((Legendre.basis(stages) - Legendre.basis(stages - 1)).roots().real)
        self.reference = np.array([-1.0, *inner[:-1], 1.0])
        self.line = Pieces(np.array([0.0, 1.0]), self.reference)
        self.nodes = self.line.nodes[1:]
        self.rate = 2 * self.line.differentiation[1:]
        values, vectors = np.linalg.eig(self.rate[:, 1:])
        upper = np.imag(values) > -1e-9
        self.weight = np.where(np.abs(np.imag(values)) < 1e-9, 1.0, 2.0)[upper]
        self.values, self.vectors, self.inverse = (
            values[upper],
            vectors[:, upper],
            np.linalg.inv(vectors)[upper],
        )
        self.tail = np.linalg.inv(legendre.legvander(self.reference, stages))[-1]
        stages_only = np.linalg.inv(legendre.legvander(self.reference[1:], stages - 1))
        self.backward = (legendre.legvander(np.array([-1.0]), stages - 1) @ stages_only)[0]

    def extrapolation(self, ratio: float) -> np.ndarray:
        """Return the matrix (s, s + 1) from a step's nodes to those of the next, ``ratio`` times as long."""
        return self.line.matrix(1 + ratio * self.nodes).toarray()


@dataclass
class March:
    """The steps made so far, all on the nodes of the present system.

    Args:
        system: the present one.
        times: ends of the steps.
        steps: values at each step's start and stages, each of shape (size, s + 1).
        counts: of what was done.
        starved: whether a piece was left unresolved for want of unknowns.
        missing: the greatest relative coefficient of what a piece or a forced step left unresolved.
    """

    system: System
    times: list[float]
    steps: list[np.ndarray] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("iterations", "factorisations", "rejected"), 0)
    )
    starved: bool = False
    missing: float = 0.0


class Marcher:
    """Marches one system.

    Args:
        system: on the coarsest mesh.
        bounds: of time.
        tolerance: of the last coefficients, in space and time, relative to the greatest value of each field.
        unknowns: the most nodal values at one instant.
    """

    def __init__(self, system: System, bounds: tuple[float, float], tolerance: float, unknowns: int) -> None:
        self.tableau = Tableau(STAGES)
        self.start, self.end = bounds
        self.tolerance, self.unknowns = tolerance, unknowns
        self.made = March(system, [self.start])
        self.factors: list[Factor] = []
        self.factored = 0.0
        self.stale = True
        self.y, self.scale = self._initial()

    def _initial(self) -> tuple[np.ndarray, np.ndarray]:
        """Return y and its scale at the start, resolved so well that no error comes from it."""
        tolerance = max(0.01 * self.tolerance, FINEST)
        while True:
            y = self.made.system.initial(self.start)
            scale = self._sizes(y[:, None])
            finer = self._finer(y[:, None], self._units(scale, (self.end - self.start) / FIRST), tolerance)
            if finer is None:
                return y, scale
            self.made.system = finer

    def run(self, report: Report) -> March:
        """March to the end.

        Raises:
            SolveError: Newton does not converge, or the error does not fall, even with the smallest step.
        """
        made, whole = self.made, self.end - self.start
        h = whole / FIRST
        while made.times[-1] < self.end:
            t = made.times[-1]
            h = self.end - t if t + 1.1 * h > self.end else h
            clash = t - self.start < CLASH * whole
            if clash:
                h = max(h, SMALLEST * whole)
            elif h < SMALLEST * whole:
                size = made.system.size
                raise SolveError(
                    f"steps shrank to nothing at t = {t:.6g} with {size} unknowns: it blows up or needs more"
                )
            forced = clash and h <= SMALLEST * whole
            stages = self._stages(t, h)
            if stages is None:
                if forced:
                    raise SolveError(f"Newton did not converge at t = {t:.6g} with the smallest step")
                h, made.counts["rejected"] = h / 4, made.counts["rejected"] + 1
                continue
            largest = np.maximum(self.scale, self._sizes(stages))
            tails = self._sizes((stages @ self.tableau.tail)[:, None])
            error = max(tails / self._units(largest, h)) / self.tolerance
            factor = 0.85 * max(error, 1e-9) ** (-1 / STAGES)
            if error > 1 and not forced:
                h, made.counts["rejected"] = h * np.clip(factor, 0.1, 0.7), made.counts["rejected"] + 1
                continue
            finer = self._finer(stages, self._units(largest, h), self.tolerance)
            if finer is not None:
                self._move(finer)
                continue
            if error > 1:
                made.missing = max(made.missing, error * self.tolerance)
            if made.starved:
                made.missing = max(made.missing, made.system.tail(stages, self._units(largest, h)))
            made.steps.append(stages)
            made.times.append(self.end if h == self.end - t else t + h)
            self.y, self.scale = stages[:, -1], largest
            h *= min(factor, 3.0) if not 1 <= factor <= 1.2 else 1.0
            report((made.times[-1] - self.start) / whole, {"time": made.times[-1], "unknowns": made.system.size})
        return made

    def _stages(self, t: float, h: float) -> np.ndarray | None:
        """Return one step's values, shape (size, s + 1), or None where Newton does not converge."""
        made, tableau = self.made, self.tableau
        guess = np.repeat(self.y[:, None], STAGES, axis=1)
        if made.steps:
            guess = made.steps[-1] @ tableau.extrapolation(h / (made.times[-1] - made.times[-2])).T
        stages = self._newton(t, h, guess)
        if stages is None and not self.fresh:
            self.stale = True
            stages = self._newton(t, h, guess)
        if stages is not None:
            for block, (field_, _) in zip(made.system.split(stages), made.system.blocks, strict=True):
                if not made.system.layout.time_order[field_]:
                    block[:, 0] = block[:, 1:] @ tableau.backward
        return stages

    def _newton(self, t: float, h: float, guess: np.ndarray) -> np.ndarray | None:
        system, tableau = self.made.system, self.tableau
        stages = np.concatenate([self.y[:, None], guess], axis=1)
        self._prepare(stages, t, h)
        enough, before = max(0.02 * self.tolerance, 1e-14), np.inf
        for iteration in range(ITERATIONS):
            value = system.residual(stages[:, 1:], stages @ tableau.rate.T / h, t + h * tableau.nodes)
            change = self._solve(value)
            stages[:, 1:] -= change
            self.made.counts["iterations"] += 1
            if not np.isfinite(stages).all():
                return None
            size = max(self._sizes(change) / self._units(np.maximum(self.scale, self._sizes(stages)), h))
            ratio = size / before
            if size < enough or (iteration and ratio < 1 and size * ratio / (1 - ratio) < enough):
                self.stale = iteration > 0 and ratio > 0.3
                return stages
            if size < 1e-11 and ratio > 0.5:  # rounding, not divergence
                return stages
            if iteration and ratio > 0.9:
                return None
            before = size
        return None

    def _prepare(self, stages: np.ndarray, t: float, h: float) -> None:
        """Have factors of ``value/h M + J`` for every eigenvalue, J and M anew in mid-step when stale."""
        self.fresh = self.stale
        if self.stale:
            middle = STAGES // 2
            rate = stages @ self.tableau.rate[middle] / h
            self.j, self.m = self.made.system.linearised(
                stages[:, middle + 1], rate, t + h * self.tableau.nodes[middle]
            )
        if self.stale or h != self.factored:
            shifts = [v.real if w == 1 else v for v, w in zip(self.tableau.values, self.tableau.weight, strict=True)]
            self.factors = [Factor(self.m * (v / h) + self.j) for v in shifts]
            self.made.counts["factorisations"] += len(self.factors)
            self.factored = h
        self.stale = False

    def _solve(self, value: np.ndarray) -> np.ndarray:
        tableau, change = self.tableau, 0.0
        for k, (factor, weight) in enumerate(zip(self.factors, tableau.weight, strict=True)):
            right = value @ tableau.inverse[k]
            part = factor(right.real if weight == 1 else right)
            change = change + weight * np.real(np.multiply.outer(part, tableau.vectors[:, k]))
        return np.asarray(change)

    def _sizes(self, values: np.ndarray) -> np.ndarray:
        return np.array([np.abs(b).max() for b in self.made.system.split(values)])

    def _units(self, scale: np.ndarray, h: float) -> np.ndarray:
        """Return what an error in each block is measured against in a step of length h.

        A rate counts by what it adds to its field within the step: where a condition holds it, the rate
        follows from it by differentiation, and only that product is bounded (E. Hairer and G. Wanner, Solving
        Ordinary Differential Equations II, Springer 1996, on systems of index 2).
        """
        weight = np.array([h**j for _, j in self.made.system.blocks])
        fields = np.array([f for f, _ in self.made.system.blocks])
        size = np.array([(scale * weight)[fields == f].max() for f in fields])
        return np.maximum(size, FLOOR * size.max()) / weight if size.max() else np.ones_like(size)

    def _finer(self, values: np.ndarray, units: np.ndarray, tolerance: float) -> System | None:
        system = self.made.system
        unresolved = system.unresolved(values, units, tolerance)
        if not unresolved:
            return None
        mesh = system.mesh.refined(unresolved)
        if mesh.unknowns() > self.unknowns:
            self.made.starved = True
            return None
        return System(mesh)

    def _move(self, finer: System) -> None:
        """Go on with a finer system; steps carry over exactly, unless a Fourier series became pieces."""
        before, self.stale = self.made.system, True
        if any(before.mesh.waves(a) != finer.mesh.waves(a) for a in finer.layout.axes):
            self.made.system, self.made.times, self.made.steps = finer, [self.start], []
            self.y, self.scale = self._initial()
            return
        transfer = before.transfer(finer)
        self.made.steps = [transfer @ s for s in self.made.steps]
        self.made.system, self.y = finer, transfer @ self.y
