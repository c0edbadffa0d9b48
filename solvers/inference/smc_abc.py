"""Approximate Bayesian computation by sequential Monte Carlo."""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from sciml.errors import UserError
from sciml.inference.simulations import Simulations
from sciml.inference.tempering import sweep
from sciml.sampling import systematic
from sciml.solution import Posterior
from sciml.solver import Context, Solver
from sciml.views.simulator import Simulator

from ._samples import deviations, rerun

Several = Annotated[int, Ge(10)]
FIRST = 5
"""One simulation in five is drawn from the prior."""
ALIVE = 0.5
"""Share of the particles that are within the next tolerance."""
MOVED = 0.5
"""Accepted moves of a particle and parameter after which it has forgotten where its copies are."""


class SMCABC(Solver[Simulator]):
    """Particles close in on the observation, as far as the simulations go.

    p(θ|x) ≈ p(θ | |x' - x| <= ε), ε falling

    with the Euclidean distance of data divided by their deviations. The nearest simulations from the prior begin; the
    next ε is that within which half of the particles are, which are resampled and moved, their data simulated anew,
    until they have forgotten their copies: half as many moves accepted of each as there are parameters. Where
    ``adjusted``, what is left of the distance is taken out by regression in unconstrained space, θ_i - (x_i - x)ᵀβ,
    weighted by 1 - (|x_i - x|/ε)². Samples are drawn from a Gaussian kernel estimate over the particles.
    Sources: P. Del Moral, A. Doucet, A. Jasra, An adaptive sequential Monte Carlo method for approximate Bayesian
    computation, Stat. Comput. 22, 2012; M. A. Beaumont, W. Zhang, D. J. Balding, Approximate Bayesian computation in
    population genetics, Genetics 162, 2002.

    Args:
        simulations: simulator calls at most; another observation than the one that is scored costs as many again.
        particles: that approximate the posterior.
        adjusted: whether particles are adjusted by regression.

    Raises:
        UserError: fewer simulations than particles.
    """

    kind = "classical"
    needs = Simulator
    ladder: ClassVar[Mapping[str, tuple[int, ...]]] = {"simulations": (1_000, 10_000, 100_000, 1_000_000)}

    def __init__(self, simulations: Several = 10_000, particles: Several = 100, adjusted: bool = False) -> None:
        if simulations < particles:
            raise UserError(f"expected as many simulations as particles, got {simulations} for {particles}; use more")
        self.simulations = simulations
        self.particles = particles
        self.adjusted = adjusted

    def solve(self, problem: Simulator, context: Context) -> Posterior:
        first = self._first(problem, context.seed)
        observed = problem.observed()
        theta, notes = self._run(problem, first, observed, context.seed)
        state = {"theta": theta, "seed": np.array(context.seed)}
        return self._posterior(problem, state, first.notes(observed) | notes)

    def restore(self, problem: Simulator, state: Mapping[str, np.ndarray]) -> Posterior:
        return self._posterior(problem, state, {})

    def _posterior(
        self, problem: Simulator, state: Mapping[str, np.ndarray], notes: Mapping[str, float | str]
    ) -> Posterior:
        return rerun(problem, state, notes, lambda x, seed: self._run(problem, self._first(problem, seed), x, seed)[0])

    def _first(self, problem: Simulator, seed: int) -> Simulations:
        return problem.simulations(max(self.particles, self.simulations // FIRST), seed)

    def _run(
        self, problem: Simulator, first: Simulations, observation: np.ndarray, seed: int
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Return particles (particles, parameters) of an observation (data,), and what is to be said of them."""
        prior, generator = problem.prior(), torch.Generator().manual_seed(seed)
        scale, centre = torch.from_numpy(deviations(first.x.numpy())), torch.from_numpy(observation)

        def distance(x: Tensor) -> Tensor:
            return ((x - centre) / scale).norm(dim=1)

        nearest = distance(first.x).argsort()[: self.particles]
        free, x = prior.unconstrain(first.theta[nearest]), first.x[nearest]
        count, calls, failed = len(free), first.asked, first.asked - len(first.x)

        def simulate(theta: Tensor) -> Tensor:
            nonlocal calls, failed
            found = problem.simulated(theta, generator)
            calls, failed = calls + len(found), failed + int(found.isnan().any(dim=1).sum())
            return found

        tolerance, needed, levels = float(distance(x).max()), 1, 0
        while calls + needed * count <= self.simulations:
            tolerance, levels = _next(distance(x)), levels + 1
            within = _within(distance, tolerance)
            rows = systematic(within(x).exp(), count, generator)
            free, x, moved, needed = free[rows], x[rows], 0.0, 0
            while moved < MOVED * free.shape[1] and calls + count <= self.simulations:
                free, x, accepted = sweep(prior, simulate, within, free, x, generator)
                moved, needed = moved + accepted, needed + 1
        notes = {"simulator_calls": float(calls), "tolerance": tolerance, "tolerances": float(levels)}
        notes["distinct"] = len(free.unique(dim=0)) / count
        if failed:
            notes["excluded"] = failed / calls
        if self.adjusted and tolerance > 0:
            weights = 1 - (distance(x) / tolerance) ** 2
            rows = systematic(weights.clamp_min(0), count, generator)
            free = adjusted(free, (x - centre) / scale, weights)[rows]
        return prior.constrain(free).numpy(), notes


def _next(distances: Tensor) -> float:
    """Return the distance within which a share of the particles is, or, where that is all, the next lower one."""
    nearer = distances[distances < distances.max()]
    return float(min(distances.quantile(ALIVE), nearer.max()) if len(nearer) else distances.max())


def _within(distance: Callable[[Tensor], Tensor], tolerance: float) -> Callable[[Tensor], Tensor]:
    """Return the log weight of data (n, data): 0 within the tolerance, minus infinity beyond, and where it failed."""
    return lambda x: torch.where(distance(x) <= tolerance, 0.0, -torch.inf).double()


def adjusted(free: Tensor, apart: Tensor, weights: Tensor) -> Tensor:
    """Return parameters as they would be at no distance, by weighted linear regression.

    Args:
        free: unconstrained parameters, shape (n, parameters).
        apart: data less the observation, shape (n, data).
        weights: shape (n,).
    """
    root = weights.clamp_min(0).sqrt()[:, None]
    design = torch.cat([torch.ones_like(root), apart], dim=1)
    slopes = torch.linalg.lstsq(root * design, root * free, driver="gelsd").solution[1:]
    return free - apart @ slopes
