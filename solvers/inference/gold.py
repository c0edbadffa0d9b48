"""Ratios of likelihoods learnt from what the simulator knows of its own latent draws."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from sciml.errors import UserError
from sciml.inference.flows import Flow
from sciml.inference.tape import trace
from sciml.neural import Phase
from sciml.parameters import Count, Positive
from sciml.views.simulator import Simulator

from ._ratio import RatioNetwork, RatioSolver

Loss = Literal["carl", "rolr", "cascal", "rascal", "scandal", "alice", "alices", "sally"]
RIVALS = 64
"""Other parameters at which the draws of each simulation are read again."""


class Gold(RatioSolver):
    """A simulator written against a source of draws tells the joint ratio and the joint score of each simulation.

    r(x, z|θ₀, θ₁) = p(x, z|θ₀)/p(x, z|θ₁) and t(x, z|θ) = ∇θ log p(x, z|θ) scatter about r(x|θ₀, θ₁) and ∇θ log p(x|θ),
    which minimise losses that hold them. A network f(θ, x) gives log r̂ = f(θ₀, x) - f(θ₁, x), x from θ₀, both
    parameters from the prior; with the logistic function σ

    carl:   -log σ(log r̂), the plain classifier
    rolr:   (1/r - 1/r̂)²
    alice:  -σ(log r) log σ(log r̂) - σ(-log r) log σ(-log r̂)
    cascal, rascal, alices:  the same three and  a |t - ∇θ f|²
    scandal:  -log q(x|θ) + a |t - ∇θ log q|², q a flow and f = log q
    sally:  |t - t̂(x)|² at the prior's medians alone, from half of the simulations; then carl with t̂ in the place of x

    r and t need no further simulation: the draws of each are read again at other parameters.
    Sources: J. Brehmer et al., Mining gold from implicit models to improve likelihood-free inference, 2018, arXiv
    1805.12244; M. Stoye et al., Likelihood-free inference with an improved cross-entropy estimator, 2018, arXiv
    1808.00973.

    Args:
        simulations: simulator calls, made once.
        loss: by which the ratio is learnt.
        score_weight: a, of scores in deviations of the prior.
        width: units of a layer.
        blocks: residual blocks of two layers each.
        contrast: other parameters in a batch for each simulation.
        batch: simulations of a batch.
        steps: Adam steps; the learning rate falls to a thousandth along a cosine.
        learning_rate: of the first step.
    """

    def __init__(
        self,
        simulations: Count = 10_000,
        loss: Loss = "alices",
        score_weight: Positive = 0.1,
        width: Count = 64,
        blocks: Count = 2,
        contrast: Count = 8,
        batch: Count = 256,
        steps: Count = 3000,
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
        try:
            problem.mine(problem.prior().sample(1, torch.Generator().manual_seed(0)), torch.Generator().manual_seed(0))
        except UserError as error:
            return str(error)
        return None

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
        self.network = RatioNetwork(parameters, data, self.width, self.blocks, self.real)

    def schedule(self) -> tuple[Phase, ...]:
        stages = 2 if self.loss == "sally" else 1
        return tuple(Phase("adam", self.steps, self.learning_rate, 1e-3, stage) for stage in range(stages))

    def trained(self, stage: int) -> list[Tensor]:
        return list((self.statistic if self.loss == "sally" and stage == 0 else self.network).parameters())

    def begin(self, stage: int) -> None:
        self.stage = stage

    def gold(self, device: torch.device) -> dict[str, Tensor]:
        """Return what simulations tell, made on first use.

        ``theta`` (n, parameters), ``x`` (n, data), ``score`` (n, parameters) in deviations of the prior, ``rivals``
        (n, 64, parameters) and ``log_ratio`` to them (n, 64).
        """
        if self.mined is None:
            generator, prior = torch.Generator().manual_seed(self.simulation_seed), self.problem.prior()
            theta = prior.sample(self.simulations, generator)
            if self.loss == "sally":
                theta[::2] = prior.quantile(torch.full_like(theta[:1], 0.5))
            traced = self.problem.mine(theta, generator)
            rivals = prior.sample(RIVALS * len(theta), generator).unflatten(0, (RIVALS, len(theta)))
            again = torch.stack([trace(self.problem.simulate, r, traced.values).log_joint for r in rivals], dim=1)
            self.scale.fit(traced.x.to(self.real))
            found = {
                "theta": theta,
                "x": traced.x,
                "score": traced.score * self.theta_scale,
                "rivals": rivals.transpose(0, 1),
                "log_ratio": traced.log_joint[:, None] - again,
            }
            self.mined = {name: rows.to(device, self.real) for name, rows in found.items()}
        return self.mined

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        gold, device = self.gold(generator.device), generator.device
        rows = torch.randint(self.simulations, (self.batch,), generator=generator, device=device)
        if self.loss == "sally":
            rows = (rows - rows % 2 + self.stage) % self.simulations  # the medians' simulations are the even ones
        others = torch.randint(RIVALS, (self.batch, self.contrast), generator=generator, device=device)
        batch = {name: gold[name][rows] for name in ("theta", "x", "score")}
        batch["noise"] = torch.rand(batch["x"].shape, generator=generator, device=device, dtype=self.real) - 0.5
        return batch | {name: gold[name][rows[:, None], others] for name in ("rivals", "log_ratio")}

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        theta, x = batch["theta"].detach().requires_grad_(), batch["x"]
        if self.loss == "sally" and self.stage == 0:
            return {"score": (batch["score"] - self.statistic(self.scale(x))).square().sum(dim=1).mean()}
        if self.loss == "scandal":
            f = self.log_ratio(theta, x, batch["noise"])
            terms = {"density": -f.mean()}
        else:
            f = self.log_ratio(theta, x)
            terms = {"ratio": self._ratio_loss(f, batch)}
        if self.loss in ("cascal", "rascal", "alices", "scandal"):
            (slope,) = torch.autograd.grad(f.sum(), theta, create_graph=True)
            missing = batch["score"] - slope * self.theta_scale
            terms["score"] = self.score_weight * missing.square().sum(dim=1).mean()
        return terms

    def _ratio_loss(self, f: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        found = f[:, None] - self.log_ratio(batch["rivals"], batch["x"][:, None])
        if self.loss in ("rolr", "rascal"):
            return (torch.exp(-batch["log_ratio"]) - torch.exp(-found)).square().mean()
        if self.loss in ("alice", "alices"):
            share = torch.sigmoid(batch["log_ratio"])
            return (share * softplus(-found) + (1 - share) * softplus(found)).mean()
        return softplus(-found).mean()

    def log_ratio(self, theta: Tensor, x: Tensor, noise: Tensor | None = None) -> Tensor:
        given, seen = self.standard(theta), self.scale(x, noise)
        if self.loss == "scandal":
            return self.network(seen.expand(*given.shape[:-1], -1), given)
        return self.network(given, self.statistic(seen).detach() if self.loss == "sally" else seen)
