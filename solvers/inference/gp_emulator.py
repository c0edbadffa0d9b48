"""Gaussian-process emulation of the simulator."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch

from sciml.errors import UserError
from sciml.inference.calibration import familiarity
from sciml.inference.emulator import Emulator
from sciml.inference.resampling import by_observation
from sciml.inference.tempering import Tempered, temper
from sciml.parameters import Count, Several
from sciml.solution import Posterior
from sciml.solver import Context, Solver
from sciml.views.simulator import Simulator

from ._emulated import close_in, emulated_likelihood
from ._samples import sampled

LEAST = 50
"""Simulations of a round at least."""


class GPEmulator(Solver[Simulator]):
    """Gaussian processes learn means and deviations of the data, in rounds that close in on the observation.

    p(θ|x) ∝ p(θ) p̂(x|θ), with p̂ the density of `sciml.inference.emulator.Emulator`

    is sampled by tempered sequential Monte Carlo. The first round follows the prior, each further one the posterior as
    it is known by then. Data that are far from normal on the scale of their kind are not for this method.
    Source: J. Sacks et al., Design and analysis of computer experiments, Statistical Science 4, 1989; M. Kennedy,
    A. O'Hagan, Bayesian calibration of computer models, J. R. Stat. Soc. B 63, 2001.

    Args:
        simulations: simulator calls of all rounds; another observation than the one that is scored costs as many again.
        rounds: that the simulations are made in.
        particles: that sample the posterior.

    Raises:
        UserError: fewer than 50 simulations a round.
    """

    kind = "classical"
    needs = Simulator
    ladder: ClassVar[Mapping[str, tuple[int, ...]]] = {"simulations": (200, 500, 1_000, 5_000)}

    def __init__(self, simulations: Several = 1_000, rounds: Count = 4, particles: Several = 4_000) -> None:
        if simulations < LEAST * rounds:
            raise UserError(f"expected at least {LEAST} simulations a round, got {simulations} for {rounds}; make more")
        self.simulations = simulations
        self.rounds = rounds
        self.particles = particles

    def solve(self, problem: Simulator, context: Context) -> Posterior:
        emulator, found, notes = self._run(problem, problem.observed(), context.seed)
        state = {name: value.numpy() for name, value in emulator.state_dict().items()}
        state |= {"theta": found.theta.numpy(), "log_evidence": np.array(found.log_evidence)}
        return self._posterior(problem, state | {"seed": np.array(context.seed)}, notes)

    def restore(self, problem: Simulator, state: Mapping[str, np.ndarray]) -> Posterior:
        return self._posterior(problem, state, {})

    def _posterior(
        self, problem: Simulator, state: Mapping[str, np.ndarray], notes: Mapping[str, float | str]
    ) -> Posterior:
        observed, prior = problem.observed(), problem.prior()

        @by_observation
        def found(x: np.ndarray) -> tuple[Emulator, np.ndarray, float]:
            if not np.array_equal(x, observed):
                emulator, run, _ = self._run(problem, x, int(state["seed"]))
                return emulator, run.theta.numpy(), run.log_evidence
            emulator = Emulator(len(problem.parameters), len(problem.data))
            emulator.load_state_dict({name: torch.from_numpy(np.array(state[name])) for name in emulator.state_dict()})
            return emulator, state["theta"], float(state["log_evidence"])

        def density(theta: np.ndarray, observation: np.ndarray) -> np.ndarray:
            emulator, _, evidence = found(observation)
            likelihood, points = emulated_likelihood(problem, emulator, observation), torch.from_numpy(theta)
            logs = prior.within(lambda inside: prior.log_prob(inside) + likelihood(inside), points)
            return logs.numpy() - evidence

        return replace(sampled(problem, state, notes, lambda x: found(x)[1]), density=density)

    def _run(
        self, problem: Simulator, observation: np.ndarray, seed: int
    ) -> tuple[Emulator, Tempered, dict[str, float | str]]:
        """Return what has learnt from all rounds, the posterior, and what is to be said of them."""
        generator = torch.Generator().manual_seed(seed)
        ends = [self.simulations * (k + 1) // self.rounds for k in range(self.rounds)]
        first = problem.simulations(ends[0], seed)
        batches = [end - begin for begin, end in pairwise(ends)]
        emulator = Emulator(len(problem.parameters), len(problem.data))
        *_, (_, x) = close_in(problem, emulator, (first.theta, first.x), batches, observation, generator)
        found = temper(problem.prior(), emulated_likelihood(problem, emulator, observation), self.particles, generator)
        notes = first.notes(observation) | {"simulator_calls": float(self.simulations)}
        if len(x) < self.simulations:
            notes["excluded"] = 1 - len(x) / self.simulations
        seen = emulator.scale.context(x), emulator.scale.context(torch.from_numpy(observation))
        return emulator, found, {**notes, "log_evidence": found.log_evidence, **emulator.notes, **familiarity(*seen)}
