"""An emulator, or flows of the posterior and the likelihood combined, as held-out simulations favour it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sciml.inference.emulator import Emulator
from sciml.inference.priors import log_standard_normal
from sciml.inference.resampling import by_observation, effective_size, weigh
from sciml.inference.tempering import Tempered, temper
from sciml.parameters import Count, Positive, Several
from sciml.sampling import systematic
from sciml.views.simulator import Simulator

from ._emulated import close_in, emulated_likelihood
from ._flows import CLOSED, PAIRS, FlowSolver, Kind, Members, Part

WEIGHED = 10_000
"""Draws of the posterior flows, counted in the greatest weight, that an observation is worth."""
MOST = (2**15, 2**13)
"""Draws of the posterior flows at most for an observation, and at a time."""
POWERS = tuple(k / 10 for k in range(11))
WIDEST = 40
"""Data beyond which no likelihood is modelled: it would cost more than it tells."""
TRIED = 2
"""Batches after which an emulator must be right of everything."""
LEVEL = 1e-6
"""Probability below which errors are not what they should be: such as are a little off do no harm."""
PARTICLES = 4000
"""Of an emulated posterior."""


class Auto(FlowSolver):
    """An emulator where the data are normal about it, else flows of the posterior and the likelihood combined.

    The first quarter of the simulations teaches a Gaussian-process emulator, which closes in on the observation by two
    eighths more. If by then what its errors at simulations left out tell of the parameters was always normal, and
    errors are as large and as correlated everywhere, it makes the other simulations and answers, as in gp_emulator.

    Else flows learn from all simulations that follow the prior. A flow of the posterior proposes, a flow of the
    likelihood corrects it, as far as held-out simulations are for it:

    p(θ|x) ∝ q(θ|x) w(θ)^a,  w = p(θ) q(x|θ) / q(θ|x),  0 <= a <= 1

    samples q and resamples by importance: a = 0 is posterior estimation, a = 1 likelihood estimation. Both are trained
    on the same simulations. For each the kind of its flows has the least held-out loss, and a the least held-out loss
    of the combination, its constant taken from draws of q among which the true parameters count, so that it is never
    flattered. Of more than forty data no likelihood is modelled, nor are they emulated.
    Sources: those of npe, nle and gp_emulator; D. B. Rubin, Using the SIR algorithm to simulate posterior
    distributions, Bayesian Statistics 3, 1988.

    Args:
        simulations: simulator calls of all rounds.
        rounds: of flows; with more than one, the later ones close in on the observation that is scored.
        members: flows of each kind.
        flow: the kind of the flows; by default the one with the least held-out loss.
        width: units of a hidden layer.
        batch: simulations of a batch.
        steps: Adam steps of a round; the learning rate falls to a hundredth along a cosine.
        learning_rate: of the first step.
        emulate: whether an emulator may answer, of the observation that is scored; flows of one round answer any.
    """

    power: Tensor
    spent: Tensor
    """Simulations where the emulator asked for them."""
    emulated: Tensor
    """Whether the emulator answers."""

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
        emulate: bool = True,
    ) -> None:
        super().__init__(simulations, rounds, members, flow, width, batch, steps, learning_rate)
        self.emulate = emulate

    def build(self, problem: Simulator) -> None:
        super().build(problem)
        self.weighed, self.tempered = by_observation(self._weighed), by_observation(self._tempered)
        self.register_buffer("power", torch.zeros((), dtype=self.real))
        self.register_buffer("spent", torch.zeros((), dtype=torch.long))
        self.register_buffer("emulated", torch.tensor(False))
        if self.emulate and len(self.flows) > 1:
            self.emulator = Emulator(len(problem.parameters), len(problem.data))

    def modelled(self, problem: Simulator) -> tuple[Part, ...]:
        return ("posterior",) if len(problem.data) > WIDEST else ("posterior", "likelihood")

    def begin(self, stage: int) -> None:
        if self.emulate and len(self.flows) > 1 and not self.made:
            self._try_emulator()
        super().begin(stage)

    def _try_emulator(self) -> None:
        """Simulate as an emulator asks for, until it is all done or its errors are not as they should be."""
        share, generator = self.simulations // 8, torch.Generator().manual_seed(self.simulation_seed)
        first = self.problem.simulations(2 * share, self.seed)
        batches = [share, share, 2 * share, self.simulations - 6 * share]
        observed, made = self.problem.observed(), []
        for k, found in enumerate(
            close_in(self.problem, self.emulator, (first.theta, first.x), batches, observed, generator)
        ):
            made = found
            normal, constant = self.emulator.p_values.tolist()
            if k <= TRIED and (normal < LEVEL or (k == TRIED and constant < LEVEL)):
                self.spent.fill_(sum(batches[:k]))
                self.made.fill_(int(self.spent))
                return
        self.emulated.fill_(True)
        self.spent.fill_(sum(batches))
        self.made.fill_(self.simulations)
        theta, x = made
        self.rows.fill_(len(x))
        self.theta[: len(x)], self.x[: len(x)] = theta.to(self.theta), x.to(self.x)
        self.scale.fit(x)

    @property
    def apart(self) -> int:
        return int(self.spent)

    @property
    def answered(self) -> bool:
        return bool(self.emulated)

    def choose(self) -> dict[str, float]:
        if self.emulated:
            return {}
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
        if self.emulated:
            theta, generator = self.tempered(observation).theta, torch.Generator().manual_seed(seed)
            return theta[systematic(torch.ones(len(theta)), count, generator)]
        draws, weights, _ = self.weighed(observation)
        rows = systematic(weights, count, torch.Generator().manual_seed(seed))
        return self.problem.prior().of_normal_scores(draws[rows])

    def density(self, theta: Tensor, observation: np.ndarray) -> Tensor:
        prior = self.problem.prior()
        if self.emulated:
            likely = emulated_likelihood(self.problem, self.emulator, observation)(theta)
            return prior.log_prob(theta) + likely - self.tempered(observation).log_evidence
        scores = prior.normal_scores(theta)
        return self._combined(scores, observation) - self.weighed(observation)[2] + prior.log_slope(theta, scores)

    def told(self) -> dict[str, float | str]:
        tested = self.emulator.notes if self.emulate and len(self.flows) > 1 else {}
        if self.emulated:
            return {"answer": "emulator", **tested, **self.usual()}
        weights = self.weighed(self.problem.observed())[1]
        fraction = effective_size(weights.log()) / len(weights)
        return {"answer": "flows", **tested, **super().told(), "effective_fraction": fraction}

    def _tempered(self, observation: np.ndarray) -> Tempered:
        """Sample the emulated posterior."""
        likelihood = emulated_likelihood(self.problem, self.emulator, observation)
        return temper(self.problem.prior(), likelihood, PARTICLES, torch.Generator().manual_seed(0))

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
