"""Neural likelihood estimation."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sciml.inference.priors import log_standard_normal
from sciml.inference.resampling import by_observation
from sciml.inference.tempering import Tempered, temper
from sciml.parameters import Count, Positive, Several
from sciml.views.simulator import Simulator

from ._flows import FlowSolver, Kind, Members, Part

MOVES = 10
"""Metropolis sweeps at each temperature."""


class NLE(FlowSolver):
    """A flow learns the density of data given any parameters, and so the posterior up to a constant.

    min over q of E_{p(θ,x)} -log q(x|θ) is reached at q = p(x|θ), whatever the law of θ. The posterior p(θ) q(x|θ) is
    sampled by tempered sequential Monte Carlo. With several rounds the later simulations close in on the observation
    that is scored. Of several members the mean density answers.
    Sources: G. Papamakarios et al., Sequential neural likelihood, 2019, arXiv 1805.07226; M. Deistler et al.,
    Truncated proposals for scalable and hassle-free simulation-based inference, 2022, arXiv 2210.04815.

    Args:
        simulations: simulator calls of all rounds.
        rounds: 1 answers any observation; with more, the later ones close in on the one that is scored.
        members: flows of each kind.
        flow: the kind of the flows; by default the one with the least held-out loss.
        width: units of a hidden layer.
        batch: simulations of a batch.
        steps: Adam steps of a round; the learning rate falls to a hundredth along a cosine.
        learning_rate: of the first step.
        particles: that sample the posterior.
    """

    def __init__(
        self,
        simulations: Several = 10_000,
        rounds: Count = 1,
        members: Members = 3,
        flow: Kind = "choose",
        width: Count = 50,
        batch: Count = 128,
        steps: Count = 1200,
        learning_rate: Positive = 2e-3,
        particles: Several = 4000,
    ) -> None:
        super().__init__(simulations, rounds, members, flow, width, batch, steps, learning_rate)
        self.particles = particles
        self.tempered = by_observation(self._tempered)

    def modelled(self, problem: Simulator) -> tuple[Part, ...]:
        return ("likelihood",)

    def closing(self, observation: np.ndarray) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        prior = self.problem.prior()

        def density(scores: Tensor) -> Tensor:
            return self.log_likelihood(prior.of_normal_scores(scores), observation) + log_standard_normal(scores)

        return prior.normal_scores(self._tempered(observation).theta), density

    def drawn(self, count: int, observation: np.ndarray, seed: int) -> Tensor:
        theta, generator = self.tempered(observation).theta, torch.Generator().manual_seed(seed)
        times = -(-count // len(theta))
        rows = torch.cat([torch.randperm(len(theta), generator=generator) for _ in range(times)])
        return theta[rows[:count]]

    def density(self, theta: Tensor, observation: np.ndarray) -> Tensor:
        prior, evidence = self.problem.prior().log_prob(theta), self.tempered(observation).log_evidence
        return prior + self.log_likelihood(theta, observation) - evidence

    def _tempered(self, observation: np.ndarray) -> Tempered:
        generator = torch.Generator().manual_seed(0)
        return temper(
            self.problem.prior(),
            lambda theta: self.log_likelihood(theta, observation),
            self.particles,
            generator,
            MOVES,
        )
