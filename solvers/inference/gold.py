"""Ratios of likelihoods learnt from what the simulator knows of its own latent draws."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from sciml.inference.flows import Flow
from sciml.inference.simulations import Simulations, mined
from sciml.inference.tape import Traced, trace
from sciml.neural import Phase
from sciml.parameters import Count, Positive
from sciml.views.simulator import Simulator

from ._ratio import RatioNetworks, RatioSolver

Loss = Literal["carl", "rolr", "cascal", "rascal", "scandal", "alice", "alices", "sally"]
READINGS = 128
"""Parameters at which the draws of each simulation are read again; the first are the prior's medians."""


class Gold(RatioSolver):
    """A simulator written against a source of draws tells the joint ratio and the joint score of each simulation.

    r(x, z|θ) = p(x, z|θ)/p(x, z), p(x, z) being the mean over the prior, and t(x, z|θ) = ∇θ log p(x, z|θ) scatter about
    p(x|θ)/p(x) and ∇θ log p(x|θ), which minimise losses that hold them. The draws of every simulation are read again
    at 128 quasi-random parameters of the prior: so each tells of all parameters, weighted by r, and not of its own
    alone. A network is f(θ, x) = log r̂; in the mean over simulations and these parameters it minimises

    carl:   log(1 + e^{-f}) at a simulation's own parameters + log(1 + e^f), the plain classifier
    rolr:   (r - r̂)², without the published counterpart for 1/r, which against the mean over the prior has no bound
    alice:  r log(1 + e^{-f}) + log(1 + e^f)
    cascal, rascal, alices:  the same three and  a r |t - ∇θ f|²
    scandal:  -log q(x|θ) at a simulation's own parameters + a r |t - ∇θ log q|², q a flow and f = log q
    sally:  r |t - t̂(x)|² at the prior's medians; then carl with t̂, there a sufficient statistic, in the place of x

    Sources: J. Brehmer et al., Mining gold from implicit models to improve likelihood-free inference, 2018, arXiv
    1805.12244; M. Stoye et al., Likelihood-free inference with an improved cross-entropy estimator, 2018, arXiv
    1808.00973; the readings are weighted as by E. Veach, L. J. Guibas, Optimally combining sampling techniques for
    Monte Carlo rendering, SIGGRAPH 1995.

    Args:
        simulations: simulator calls, made once.
        loss: by which the ratio is learnt.
        score_weight: a, of scores in deviations of the prior.
        width: units of a layer.
        blocks: residual blocks of two layers each.
        contrast: readings in a batch, the same for each simulation.
        batch: simulations of a batch.
        steps: Adam steps; the learning rate falls to a thousandth along a cosine.
        learning_rate: of the first step.
    """

    ladder: ClassVar[Mapping[str, tuple[int, ...]]] = {"simulations": (300, 1_000, 10_000, 100_000)}

    def __init__(
        self,
        simulations: Count = 10_000,
        loss: Loss = "alices",
        score_weight: Positive = 0.1,
        width: Count = 64,
        blocks: Count = 2,
        contrast: Count = 16,
        batch: Count = 128,
        steps: Count = 2000,
        learning_rate: Positive = 1e-3,
    ) -> None:
        super().__init__()
        self.simulations = simulations
        self.loss: Loss = loss
        self.score_weight = score_weight
        self.width = width
        self.blocks = blocks
        self.contrast = contrast
        self.batch = batch
        self.steps = steps
        self.learning_rate = learning_rate

    def refuses(self, problem: Simulator) -> str | None:
        return problem.unmined

    def build(self, problem: Simulator) -> None:
        super().build(problem)
        parameters, data = len(problem.parameters), len(problem.data)
        self.mined: dict[str, Tensor] | None = None
        if self.loss == "scandal":
            self.network: nn.Module = Flow("spline", data, parameters, self.width).to(self.real)
            return
        if self.loss == "sally":
            layers = nn.Linear(data, self.width), nn.SiLU(), nn.Linear(self.width, self.width), nn.SiLU()
            self.statistic = nn.Sequential(*layers, nn.Linear(self.width, parameters)).to(self.real)
            data = parameters
        self.network = RatioNetworks(1, parameters, data, self.width, self.blocks, self.real)

    def schedule(self) -> tuple[Phase, ...]:
        stages = 2 if self.loss == "sally" else 1
        return tuple(Phase("adam", self.steps, self.learning_rate, 1e-3, stage) for stage in range(stages))

    def trained(self, stage: int) -> list[Tensor]:
        return list((self.statistic if self.loss == "sally" and stage == 0 else self.network).parameters())

    def begin(self, stage: int) -> None:
        self.stage = stage

    def gold(self, device: torch.device) -> dict[str, Tensor]:
        """Return what simulations tell, made on first use.

        ``theta`` (n, parameters), ``x`` (n, data), ``readings`` (128, parameters), and at these ``log_ratio`` (n, 128)
        and ``score`` (n, 128, parameters) in deviations of the prior.
        """
        if self.mined is None:
            prior = self.problem.prior()
            unit = prior.quasirandom(READINGS)
            medians = prior.quantile(torch.full_like(unit[:1], 0.5))
            readings = torch.cat([medians, unit[1:]])
            blocks = [
                (theta, traced.x.double(), *self._read(traced, readings))
                for theta, traced in mined(self.problem, self.simulations, self.seed)
            ]
            theta, x, logs, score = (torch.cat(part) for part in zip(*blocks, strict=True))
            self.simulated = Simulations(theta, x, len(theta))
            self.scale.fit(x)
            found = {
                "theta": theta,
                "x": x,
                "readings": readings,
                "log_ratio": logs - logs.logsumexp(dim=1, keepdim=True) + math.log(READINGS),
                "score": score * self.theta_scale.double().cpu(),
            }
            self.mined = {name: rows.to(device, self.real) for name, rows in found.items()}
        return self.mined

    def _read(self, traced: Traced, readings: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x, z|θ), shape (n, readings), and its score, (n, readings, parameters), at other parameters."""
        program = self.problem.simulate
        again = [trace(program, r.expand(len(traced.x), -1), traced.values) for r in readings]
        return (
            torch.stack([reading.log_joint for reading in again], dim=1),
            torch.stack([reading.score for reading in again], dim=1),
        )

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        gold, device = self.gold(generator.device), generator.device
        rows = torch.randint(self.simulations, (self.batch, 1), generator=generator, device=device)
        some = torch.randint(READINGS, (1, self.contrast), generator=generator, device=device)
        if self.loss == "sally" and self.stage == 0:
            some = torch.zeros_like(some[:, :1])
        batch = {name: gold[name][rows] for name in ("theta", "x")}
        batch["readings"] = gold["readings"][some].expand(self.batch, -1, -1)
        batch["noise"] = torch.rand(batch["x"].shape, generator=generator, device=device, dtype=self.real) - 0.5
        return batch | {name: gold[name][rows, some] for name in ("log_ratio", "score")}

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        theta, x, readings = batch["theta"], batch["x"], batch["readings"].detach().requires_grad_()
        weight = batch["log_ratio"].exp()
        if self.loss == "sally" and self.stage == 0:
            missing = batch["score"] - self.statistic(self.scale(x))
            return {"score": (weight * missing.square().sum(dim=2)).mean()}
        if self.loss == "scandal":
            terms = {"density": -self.log_ratio(theta, x, batch["noise"]).mean()}
            f = self.log_ratio(readings, x, batch["noise"])
        else:
            f = self.log_ratio(readings, x)
            terms = {"ratio": self._ratio_loss(f, theta, x, batch["log_ratio"])}
        if self.loss in ("cascal", "rascal", "alices", "scandal"):
            (slope,) = torch.autograd.grad(f.sum(), readings, create_graph=True)
            missing = batch["score"] - slope * self.theta_scale
            terms["score"] = self.score_weight * (weight * missing.square().sum(dim=2)).mean()
        return terms

    def _ratio_loss(self, f: Tensor, theta: Tensor, x: Tensor, log_ratio: Tensor) -> Tensor:
        ratio = log_ratio.exp()
        if self.loss in ("rolr", "rascal"):
            return (ratio - f.exp()).square().mean()
        if self.loss in ("alice", "alices"):
            return (ratio * softplus(-f) + softplus(f)).mean()
        return softplus(-self.log_ratio(theta, x)).mean() + softplus(f).mean()

    def log_ratio(self, theta: Tensor, x: Tensor, noise: Tensor | None = None) -> Tensor:
        given, seen = self.standard(theta), self.scale(x, noise)
        if self.loss == "scandal":
            shape = torch.broadcast_shapes(given.shape[:-1], seen.shape[:-1])
            return self.network(seen.expand(*shape, -1), given.expand(*shape, -1))
        if self.loss == "sally":
            seen = self.statistic(seen).detach()
        return self.network(given[None], seen[None])[0]
