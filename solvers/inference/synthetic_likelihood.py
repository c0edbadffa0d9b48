"""Synthetic likelihood."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor

from sciml.errors import SolveError, UserError
from sciml.inference.scales import DataScale
from sciml.inference.tempering import rise, sweep
from sciml.parameters import Several
from sciml.sampling import systematic
from sciml.solution import Posterior
from sciml.solver import Context, Solver
from sciml.views.simulator import Simulator

from ._samples import rerun

KEPT = 0.5
"""Share of the particles that the next temperature leaves effective."""
MOVED = 0.5
"""Accepted moves of a particle and parameter after which it has forgotten where its copies are."""
FLOOR = 1e-6
"""Added to variances of data on the scale of their kind."""


class SyntheticLikelihood(Solver[Simulator]):
    """The data are taken for normal, with moments of repeated simulations at each parameter.

    p̂(x|θ) = N(z; μ̂(θ), Σ̂(θ))

    of data on the scale of their kind, z, with the mean of ``repeats`` simulations and their covariance, shrunk as far
    as they are few. It is drawn anew wherever it is asked for, and kept where a particle stays, in tempered sequential
    Monte Carlo, p(θ) p̂(x|θ)^β, which ends at the temperature that the simulations allow. Samples are drawn from a
    Gaussian kernel estimate over the particles.
    Sources: S. N. Wood, Statistical inference for noisy nonlinear ecological dynamic systems, Nature 466, 2010;
    L. F. Price et al., Bayesian synthetic likelihood, J. Comput. Graph. Stat. 27, 2018; O. Ledoit, M. Wolf, A
    well-conditioned estimator for large-dimensional covariance matrices, J. Multivar. Anal. 88, 2004.

    Args:
        simulations: simulator calls at most; another observation than the one that is scored costs as many again.
        particles: that approximate the posterior.
        repeats: simulations at each parameter.

    Raises:
        UserError: fewer simulations than particles times repeats.
    """

    kind = "classical"
    needs = Simulator
    ladder: ClassVar[Mapping[str, tuple[int, ...]]] = {"simulations": (2_000, 10_000, 100_000, 1_000_000)}

    def __init__(self, simulations: Several = 100_000, particles: Several = 50, repeats: Several = 20) -> None:
        if simulations < particles * repeats:
            asked = f"{particles} particles x {repeats} repeats"
            raise UserError(f"expected as many simulations as {asked}, got {simulations}; use more, or fewer of those")
        self.simulations = simulations
        self.particles = particles
        self.repeats = repeats

    def solve(self, problem: Simulator, context: Context) -> Posterior:
        theta, notes = self._run(problem, problem.observed(), context.seed)
        return self._posterior(problem, {"theta": theta, "seed": np.array(context.seed)}, notes)

    def restore(self, problem: Simulator, state: Mapping[str, np.ndarray]) -> Posterior:
        return self._posterior(problem, state, {})

    def _posterior(
        self, problem: Simulator, state: Mapping[str, np.ndarray], notes: Mapping[str, float | str]
    ) -> Posterior:
        return rerun(problem, state, notes, lambda x, seed: self._run(problem, x, seed)[0])

    def _run(self, problem: Simulator, observation: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, float]]:
        """Return particles (particles, parameters) of an observation (data,), and what is to be said of them."""
        prior, generator = problem.prior(), torch.Generator().manual_seed(seed)
        scale, calls = DataScale(len(observation), torch.float64), 0
        cost = self.particles * self.repeats

        def repeated(theta: Tensor) -> Tensor:
            nonlocal calls
            calls += len(theta) * self.repeats
            return problem.simulated(theta.repeat_interleave(self.repeats, dim=0), generator)

        def likelihood(x: Tensor) -> Tensor:
            z = scale(x).view(-1, self.repeats, len(observation))
            return torch.stack([synthetic(few, scale(torch.from_numpy(observation))) for few in z])

        theta = prior.sample(self.particles, generator)
        x = repeated(theta)
        scale.fit(x[x.isfinite().all(dim=1)])
        free, logs = prior.unconstrain(theta), likelihood(x)
        if not (logs > -torch.inf).any():
            raise SolveError(f"simulations failed at all {self.particles} draws of the prior; use more particles")
        beta, sweeps = 0.0, 0
        while beta < 1 and calls + cost <= self.simulations:
            step = rise(logs, 1 - beta, KEPT * self.particles)
            rows = systematic(torch.softmax(step * logs, dim=0), self.particles, generator)
            free, logs, beta, moved = free[rows], logs[rows], beta + step, 0.0
            while moved < MOVED * free.shape[1] and calls + cost <= self.simulations:
                free, logs, accepted = sweep(
                    prior, lambda t: likelihood(repeated(t)), lambda v, b=beta: b * v, free, logs, generator
                )
                moved, sweeps = moved + accepted, sweeps + 1
        notes = {"simulator_calls": float(calls), "temperature": beta, "sweeps": float(sweeps)}
        return prior.constrain(free).numpy(), notes | {"distinct": len(free.unique(dim=0)) / len(free)}


def synthetic(z: Tensor, observed: Tensor) -> Tensor:
    """Return log N(observed; mean, covariance) of a few rows z (n, data), a scalar; minus infinity where one failed."""
    if not z.isfinite().all():
        return torch.tensor(-torch.inf, dtype=z.dtype)
    covariance = torch.from_numpy(ledoit_wolf(z.numpy())[0]) + FLOOR * torch.eye(z.shape[1], dtype=z.dtype)
    return torch.distributions.MultivariateNormal(z.mean(dim=0), covariance, validate_args=False).log_prob(observed)
