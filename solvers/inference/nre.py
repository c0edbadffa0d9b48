"""Neural ratio estimation."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import softplus

from sciml.inference.simulations import excluded
from sciml.neural import Phase
from sciml.parameters import Count, Positive
from sciml.views.simulator import Simulator

from ._ratio import RatioNetwork, RatioSolver

BALANCE = 100.0
"""Weight of the balance of a balanced loss, as published."""


class NRE(RatioSolver):
    """A classifier learns the likelihood-to-evidence ratio, and so the posterior given any data.

    min over f of  E_{p(θ,x)} log(1 + e^{-f(θ,x)}) + E_{p(θ)p(x)} log(1 + e^{f(θ,x)})  is reached at
    f = log p(x|θ)/p(x), hence p(θ|x) = p(θ) e^{f(θ,x)}. A pair of the product of marginals takes its θ from another
    simulation. ``balanced`` adds 100 (E_{p(θ,x)} σ(f) + E_{p(θ)p(x)} σ(f) - 1)², which makes posteriors rather too wide
    than too narrow. ``contrastive`` asks which of K parameters made x, if any: with h_k = f(θ_k, x),

    -½ E log 1/(1 + Σ e^{h_k}/K) - ½ E log (e^{h_1}/K)/(1 + Σ e^{h_k}/K)

    over x of another simulation first, and of that of θ_1 then. All simulations are made before training.
    Sources: K. Cranmer et al., Approximating likelihood ratios with calibrated discriminative classifiers,
    2015, arXiv 1506.02169; J. Hermans et al., Likelihood-free MCMC with amortized approximate ratio
    estimators, 2020, arXiv 1903.04057; B. K. Miller et al., Contrastive neural ratio estimation, 2022, arXiv
    2210.06170; A. Delaunoy et al., Towards reliable simulation-based inference with balanced neural ratio
    estimation, 2022, arXiv 2208.13624.

    Args:
        simulations: simulator calls, made once.
        width: units of a layer.
        blocks: residual blocks of two layers each.
        contrast: pairs of the product of marginals for each joint pair of a batch; of contrastive ones K.
        batch: joint pairs of a batch.
        steps: Adam steps; the learning rate falls to a thousandth along a cosine.
        learning_rate: of the first step.
        loss: by which the ratio is learnt.
    """

    def __init__(
        self,
        simulations: Count = 10_000,
        width: Count = 64,
        blocks: Count = 3,
        contrast: Count = 4,
        batch: Count = 256,
        steps: Count = 5000,
        learning_rate: Positive = 1e-3,
        loss: Literal["binary", "balanced", "contrastive"] = "binary",
    ) -> None:
        super().__init__()
        self.simulations = simulations
        self.width = width
        self.blocks = blocks
        self.contrast = contrast
        self.batch = batch
        self.steps = steps
        self.learning_rate = learning_rate
        self.loss = loss

    def build(self, problem: Simulator) -> None:
        super().build(problem)
        self.pairs: tuple[Tensor, Tensor] | None = None
        sizes = len(problem.parameters), len(problem.data), self.width, self.blocks
        self.network = RatioNetwork(*sizes, self.real)

    def schedule(self) -> tuple[Phase, ...]:
        return (Phase("adam", self.steps, self.learning_rate, decay=1e-3),)

    def simulated(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the training pairs, (simulations, parameters) and (simulations, data), made on first use."""
        if self.pairs is None:
            generator = torch.Generator().manual_seed(self.simulation_seed)
            theta, x = self.problem.joint(self.simulations, generator)
            self.scale.fit(x)
            self.pairs = theta.to(device, self.real), x.to(device, self.real)
        return self.pairs

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        theta, x = self.simulated(generator.device)
        shape = (self.batch, 1 + self.contrast)
        rows = torch.randint(len(x), shape, generator=generator, device=generator.device)
        return {"theta": theta[rows], "x": x[rows[:, :1]]}

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        f = self.log_ratio(batch["theta"], batch["x"])
        if self.loss == "contrastive":
            one = torch.zeros_like(f[:, :1])
            of_any, of_none = (
                torch.cat([one, h - math.log(self.contrast)], dim=1).logsumexp(dim=1) for h in (f[:, :-1], f[:, 1:])
            )
            return {"joint": (of_any - f[:, 0] + math.log(self.contrast)).mean() / 2, "marginal": of_none.mean() / 2}
        terms = {"joint": softplus(-f[:, 0]).mean(), "marginal": softplus(f[:, 1:]).mean()}
        if self.loss == "balanced":
            terms["balance"] = BALANCE * (f[:, 0].sigmoid().mean() + f[:, 1:].sigmoid().mean() - 1) ** 2
        return terms

    def findings(self, batch: Mapping[str, Tensor]) -> dict[str, float]:
        return excluded(len(self.simulated(self.theta_mean.device)[0]), self.simulations)

    def log_ratio(self, theta: Tensor, x: Tensor) -> Tensor:
        return self.network(self.standard(theta), self.scale.context(x))
