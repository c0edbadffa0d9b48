"""Flows of the posterior and the likelihood combined, or an emulator, as held-out simulations favour it."""

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
BATCHES = 3
"""Rounds in which an emulator makes the simulations that are left."""
PARTICLES = 4000
"""Of an emulated posterior."""


class Auto(FlowSolver):
    """Flows or an emulator, whichever tells held-out simulations near the observation best; flows of both kinds.

    A flow of the posterior proposes, a flow of the likelihood corrects it,

    p(θ|x) ∝ q(θ|x) w(θ)^a,  w = p(θ) q(x|θ) / q(θ|x),  0 <= a <= 1

    which samples q and resamples by importance: a = 0 is posterior estimation, a = 1 likelihood estimation. Both are
    trained on the same simulations. For each the kind of its flows has the least held-out loss, and a the least
    held-out loss of the combination, its constant taken from draws of q among which the true parameters count, so that
    it is never flattered. Before a second round a Gaussian-process emulator is compared with the combination in the
    same way, by the half of the held-out simulations that are nearest to the observation; if it is better, it makes
    the simulations that are left in rounds of its own, and answers, as in gp_emulator. Of more than forty data no
    likelihood is modelled.
    Sources: those of npe, nle and gp_emulator; D. B. Rubin, Using the SIR algorithm to simulate posterior
    distributions, Bayesian Statistics 3, 1988.

    Args:
        simulations: simulator calls of all rounds.
        rounds: 1 answers any observation; with more, the later ones close in on the one that is scored.
        members: flows of each kind.
        flow: the kind of the flows; by default the one with the least held-out loss.
        width: units of a hidden layer.
        batch: simulations of a batch.
        steps: Adam steps of a round; the learning rate falls to a hundredth along a cosine.
        learning_rate: of the first step.
    """

    power: Tensor
    emulated: Tensor
    """Whether the emulator answers."""
    gains: Tensor
    """Mean log posterior density of held-out parameters above that of the posterior flows, of flows and emulator."""

    def __init__(
        self,
        simulations: Several = 10_000,
        rounds: Count = 2,
        members: Members = 3,
        flow: Kind = "choose",
        width: Count = 50,
        batch: Count = 128,
        steps: Count = 1200,
        learning_rate: Positive = 2e-3,
    ) -> None:
        super().__init__(simulations, rounds, members, flow, width, batch, steps, learning_rate)

    def build(self, problem: Simulator) -> None:
        super().build(problem)
        self.weighed, self.tempered = by_observation(self._weighed), by_observation(self._tempered)
        self.register_buffer("power", torch.zeros((), dtype=self.real))
        self.register_buffer("emulated", torch.tensor(False))
        self.register_buffer("gains", torch.zeros(2))
        if self.rounds > 1 and len(self.flows) > 1:
            self.emulator = Emulator(len(problem.parameters), len(problem.data))

    def modelled(self, problem: Simulator) -> tuple[Part, ...]:
        return ("posterior",) if len(problem.data) > WIDEST else ("posterior", "likelihood")

    @property
    def answered(self) -> bool:
        return bool(self.emulated)

    def choose(self) -> dict[str, float]:
        if self.emulated:
            return {}
        true, drawn, seen = self.rivals()
        logs = torch.zeros(drawn.shape[:3])
        if len(self.flows) > 1:
            everyone = self._ratios(torch.cat([true[:, :, None], drawn], dim=2), seen, self._by_flows)
            gains = torch.stack([_gains(a * everyone).mean() for a in POWERS])
            self.power.fill_(POWERS[int(gains.argmax())])
            logs = float(self.power) * everyone[:, :, 1:]
        return {"power": float(self.power), **self.calibrated(true, drawn, logs)}

    def later(self, wanted: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if len(self.flows) == 1 or not self._prefers_emulator(generator):
            return super().later(wanted, generator)
        self.emulated.fill_(True)
        rows = int(self.rows)
        made = self.theta[:rows].double().cpu(), self.x[:rows].double().cpu()
        batches = [wanted * (k + 1) // BATCHES - wanted * k // BATCHES for k in range(BATCHES)]
        theta, x = close_in(self.problem, self.emulator, made, batches, self.problem.observed(), generator)
        return theta[rows:], x[rows:]

    @torch.no_grad()
    def _prefers_emulator(self, generator: torch.Generator) -> bool:
        """Return whether an emulator tells the parameters of held-out simulations near the observation better."""
        rows = torch.arange(int(self.rows))
        own = rows[~torch.isin(rows, self.held.cpu())]
        scores = self.problem.prior().normal_scores(self.theta[own].double().cpu())
        self.emulator.cpu().fit(scores, self.x[own].double().cpu(), scores, generator)
        true, drawn, seen = self.rivals()
        everyone = torch.cat([true[:, :, None], drawn], dim=2)
        found = float(self.power) * self._ratios(everyone, seen, self._by_flows)
        found = torch.stack([_gains(found), _gains(self._ratios(everyone, seen, self._by_emulator))])
        apart = (seen - self.context(self.problem.observed())).norm(dim=2)
        self.gains.copy_(found[:, apart <= apart.median()].mean(dim=1))
        return bool(self.gains[1] > self.gains[0])

    @torch.no_grad()
    def _ratios(self, scores: Tensor, seen: Tensor, likelihood: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return log w of normal scores (members, n, rivals, parameters) at held-out data, each by its member."""
        shape, flat = scores.shape[:3], scores.flatten(1, 2)
        rows, seen = self.held[:, :PAIRS, None].expand(shape), seen[:, :, None].expand(*shape, -1)
        likely = likelihood(flat, rows.flatten(1)) + log_standard_normal(flat)
        return (likely - self.ensemble("posterior").each(flat, seen.flatten(1, 2))).view(shape)

    def _by_flows(self, scores: Tensor, rows: Tensor) -> Tensor:
        """Return log q(x|θ) of normal scores (members, m, parameters) at data of rows (members, m), by each member."""
        given = self.given_of(scores.flatten(0, 1)).unflatten(0, rows.shape)
        return self.ensemble("likelihood").each(self.targets(rows)["likelihood"][0], given)

    def _by_emulator(self, scores: Tensor, rows: Tensor) -> Tensor:
        """Return the same as it is emulated."""
        logs = self.emulator(scores.flatten(0, 1).double().cpu(), self.x[rows.flatten()].double().cpu())
        return logs.to(scores).view(rows.shape)

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
        gains = dict(zip(("gain_of_flows", "gain_of_emulator"), self.gains.tolist(), strict=True))
        if self.emulated:
            return {"answer": "emulator", **gains, **super().told()}
        weights = self.weighed(self.problem.observed())[1]
        fraction = effective_size(weights.log()) / len(weights)
        compared = gains if self.gains.any() else {}
        return {"answer": "flows", **compared, **super().told(), "effective_fraction": fraction}

    def _tempered(self, observation: np.ndarray) -> Tempered:
        """Sample the emulated posterior."""
        likelihood, generator = (
            emulated_likelihood(self.problem, self.emulator, observation),
            torch.Generator().manual_seed(0),
        )
        return temper(self.problem.prior(), likelihood, PARTICLES, generator)

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


def _gains(logs: Tensor) -> Tensor:
    """Return the log density of what comes first, above that of the law drawn from, given log weights (..., rivals)."""
    return logs[..., 0] - logs.logsumexp(dim=-1) + math.log(logs.shape[-1])


@dataclass(frozen=True)
class _Proposal:
    """The posterior flows given one observation, as a law of normal scores."""

    flows: FlowSolver
    observation: np.ndarray

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        return self.flows.draw(count, self.observation, generator)
