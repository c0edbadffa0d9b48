"""Posterior and likelihood flows combined, as far as held-out simulations favour it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciml.inference.priors import log_standard_normal
from sciml.inference.resampling import by_observation, effective_size, weigh
from sciml.sampling import systematic
from sciml.views.simulator import Simulator

from ._flows import CLOSED, PAIRS, FlowSolver, Part

WEIGHED = 10_000
"""Draws of the posterior flows, counted in the greatest weight, that an observation is worth."""
MOST = (2**15, 2**13)
"""Draws of the posterior flows at most for an observation, and at a time."""
POWERS = tuple(k / 10 for k in range(11))
WIDEST = 40
"""Data beyond which no likelihood is modelled: it would cost more than it tells."""


class Auto(FlowSolver):
    """A flow of the posterior proposes, a flow of the likelihood corrects it, as far as held-out data are for it.

    p(θ|x) ∝ q(θ|x) w(θ)^a,  w = p(θ) q(x|θ) / q(θ|x),  0 <= a <= 1

    samples q and resamples by importance: a = 0 is posterior estimation, a = 1 likelihood estimation. Both are trained
    on the same simulations. For each the kind of its flows has the least held-out loss, and a the least held-out loss
    of the combination, its constant taken from draws of q among which the true parameters count, so that it is never
    flattered. Of more than forty data no likelihood is modelled.
    Sources: those of npe and nle; D. B. Rubin, Using the SIR algorithm to simulate posterior distributions, Bayesian
    Statistics 3, 1988.
    """

    power: Tensor

    def build(self, problem: Simulator) -> None:
        super().build(problem)
        self.weighed = by_observation(self._weighed)
        self.register_buffer("power", torch.zeros((), dtype=self.real))

    def modelled(self, problem: Simulator) -> tuple[Part, ...]:
        return ("posterior",) if len(problem.data) > WIDEST else ("posterior", "likelihood")

    def choose(self) -> dict[str, float]:
        true, drawn, seen = self.rivals()
        logs = torch.zeros(drawn.shape[:3])
        if len(self.flows) > 1:
            everyone = self._ratios(torch.cat([true[:, :, None], drawn], dim=2), seen)
            constants = [torch.logsumexp(a * everyone, dim=2) for a in POWERS]
            gains = torch.stack([(a * everyone[..., 0] - c).mean() for a, c in zip(POWERS, constants, strict=True)])
            self.power.fill_(POWERS[int(gains.argmax())])
            logs = float(self.power) * everyone[:, :, 1:]
        return {"power": float(self.power), **self.calibrated(true, drawn, logs)}

    @torch.no_grad()
    def _ratios(self, scores: Tensor, seen: Tensor) -> Tensor:
        """Return log w of normal scores (members, n, rivals, parameters) at held-out data, each by its member."""
        shape, flat = scores.shape[:3], scores.flatten(1, 2)
        data = self.targets(self.held[:, :PAIRS])["likelihood"][0]
        seen, data = (part[:, :, None].expand(*shape, -1).flatten(1, 2) for part in (seen, data))
        given = self.given_of(flat.flatten(0, 1)).unflatten(0, flat.shape[:2])
        likely = self.ensemble("likelihood").each(data, given) + log_standard_normal(flat)
        return (likely - self.ensemble("posterior").each(flat, seen)).view(shape)

    def closing(self, observation: np.ndarray) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        draws, weights, _ = self._weighed(observation)
        rows = systematic(weights, CLOSED, torch.Generator().manual_seed(0))
        return draws[rows], lambda scores: self._combined(scores, observation)

    def drawn(self, count: int, observation: np.ndarray, seed: int) -> Tensor:
        draws, weights, _ = self.weighed(observation)
        rows = systematic(weights, count, torch.Generator().manual_seed(seed))
        return self.problem.prior().of_normal_scores(draws[rows])

    def density(self, theta: Tensor, observation: np.ndarray) -> Tensor:
        prior = self.problem.prior()
        scores = prior.normal_scores(theta)
        return self._combined(scores, observation) - self.weighed(observation)[2] + prior.log_slope(theta, scores)

    def told(self) -> dict[str, float | str]:
        weights = self.weighed(self.problem.observed())[1]
        fraction = effective_size(weights.log()) / len(weights)
        return {**super().told(), "effective_fraction": fraction}

    def _weighed(self, observation: np.ndarray) -> tuple[Tensor, Tensor, float]:
        """Return draws of q as normal scores, their weights, and the logarithm of the combination's constant."""
        generator = torch.Generator().manual_seed(0)
        proposal = _Proposal(self, observation)
        draws, logs = weigh(proposal, lambda u: self._log_weight(u, observation), WEIGHED, generator, *MOST)
        return draws, torch.softmax(logs, dim=0), float(logs.logsumexp(0)) - math.log(len(logs))

    def _log_weight(self, scores: Tensor, observation: np.ndarray) -> Tensor:
        """Return a log w of normal scores (n, parameters), shape (n,)."""
        if not self.power:
            return torch.zeros(len(scores), dtype=scores.dtype)
        likely = self.log_likelihood(self.problem.prior().of_normal_scores(scores), observation)
        return float(self.power) * (likely + log_standard_normal(scores) - self.log_posterior(scores, observation))

    def _combined(self, scores: Tensor, observation: np.ndarray) -> Tensor:
        """Return log q(u|x) w^a, without its constant, of normal scores (n, parameters), shape (n,)."""
        return self.log_posterior(scores, observation) + self._log_weight(scores, observation)


@dataclass(frozen=True)
class _Proposal:
    """The posterior flows given one observation, as a law of normal scores."""

    flows: FlowSolver
    observation: np.ndarray

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        return self.flows.draw(count, self.observation, generator)
