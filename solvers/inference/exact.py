"""The posterior of a known likelihood."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from sciml.inference.resampling import by_observation
from sciml.inference.tempering import Tempered, r_hat, temper
from sciml.parameters import Count, Several
from sciml.solution import Posterior
from sciml.solver import Context, Solver
from sciml.views.simulator import Simulator

from ._samples import sampled

KEPT = 0.8
"""Share of the particles that a temperature leaves effective: many small steps keep the weights of modes."""


class Exact(Solver[Simulator]):
    """Where no draw stays latent, or the likelihood is known in closed form, the posterior is sampled directly.

    p(θ|x) ∝ p(θ) p(x|θ) by way of p(θ) p(x|θ)^β, β from 0 to 1, by tempered sequential Monte Carlo in unconstrained
    space: the classical baseline for every method that has to do without the likelihood. Several independent runs
    are pooled, and their agreement is reported. No simulation is made.
    Source: P. Del Moral, A. Doucet, A. Jasra, Sequential Monte Carlo samplers, J. R. Stat. Soc. B 68, 2006.

    Args:
        particles: of each run.
        runs: independent runs.
        moves: Metropolis sweeps at each temperature; twice as many at the last.
    """

    kind = "classical"
    needs = Simulator
    ladder: ClassVar[Mapping[str, tuple[int, ...]]] = {"particles": (100, 300, 1000, 2500)}

    def __init__(self, particles: Several = 2500, runs: Annotated[int, Ge(2)] = 4, moves: Count = 20) -> None:
        self.particles = particles
        self.runs = runs
        self.moves = moves

    def refuses(self, problem: Simulator) -> str | None:
        return None if problem.tractable else "its likelihood is not known, some draws stay latent"

    def solve(self, problem: Simulator, context: Context) -> Posterior:
        found = self._runs(problem, problem.observed(), context.seed)
        theta = torch.stack([run.theta for run in found])
        free = torch.stack([problem.prior().unconstrain(run.theta) for run in found])
        evidence = _pooled(found)
        notes = {
            "simulator_calls": 0.0,
            "likelihood_calls": float(sum(run.evaluations for run in found)),
            "temperatures": float(max(run.temperatures for run in found)),
            "accepted": float(np.mean([run.accepted for run in found])),
            "log_evidence": evidence,
            "log_evidence_deviation": float(np.std([run.log_evidence for run in found], ddof=1)),
            "r_hat": r_hat(free),
        }
        state = {
            "theta": theta.flatten(0, 1).numpy(),
            "log_evidence": np.array(evidence),
            "seed": np.array(context.seed),
        }
        return self._posterior(problem, state, notes)

    def restore(self, problem: Simulator, state: Mapping[str, np.ndarray]) -> Posterior:
        return self._posterior(problem, state, {"simulator_calls": 0.0})

    def _posterior(
        self, problem: Simulator, state: Mapping[str, np.ndarray], notes: Mapping[str, float | str]
    ) -> Posterior:
        observed, prior = problem.observed(), problem.prior()

        @by_observation
        def found(x: np.ndarray) -> tuple[np.ndarray, float]:
            if np.array_equal(x, observed):
                return state["theta"], float(state["log_evidence"])
            runs = self._runs(problem, x, int(state["seed"]))
            return np.concatenate([run.theta.numpy() for run in runs]), _pooled(runs)

        plain = sampled(problem, state, notes, lambda x: found(x)[0])

        def density(theta: np.ndarray, observation: np.ndarray) -> np.ndarray:
            likelihood, points = _given(problem, torch.from_numpy(observation)), torch.from_numpy(theta)
            logs = prior.within(lambda inside: prior.log_prob(inside) + likelihood(inside), points)
            return logs.numpy() - found(observation)[1]

        return replace(plain, density=density)

    def _runs(self, problem: Simulator, x: np.ndarray, seed: int) -> list[Tempered]:
        prior, generator = problem.prior(), torch.Generator().manual_seed(seed)
        likelihood = _given(problem, torch.from_numpy(np.asarray(x, dtype=float)))
        return [temper(prior, likelihood, self.particles, generator, self.moves, KEPT) for _ in range(self.runs)]


def _pooled(runs: Sequence[Tempered]) -> float:
    """Return the logarithm of the mean evidence."""
    return float(np.logaddexp.reduce([run.log_evidence for run in runs]) - np.log(len(runs)))


def _given(problem: Simulator, x: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda theta: problem.log_likelihood(theta, x.expand(len(theta), -1))
