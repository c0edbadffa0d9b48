"""Neural ratio estimation."""

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from sciml.errors import UserError
from sciml.inference.resampling import by_observation
from sciml.neural import Phase
from sciml.parameters import Count, Positive, Several
from sciml.views.simulator import Simulator

from ._flows import CHECK, FOLDS, LEAST, Members, ample
from ._ratio import RatioNetworks, RatioSolver

HELD_CONTRAST = 8
"""Pairs of the product of marginals for each joint pair that is held out."""
AVERAGED = 2**13
"""Quasi-random points of the prior over which the ratio of each member is averaged, for its constant."""
BALANCE = 100.0
"""Weight of the balance of a balanced loss, as published."""


class NRE(RatioSolver):
    """A classifier learns the likelihood-to-evidence ratio, and so the posterior given any data.

    min over f of  E_{p(θ,x)} log(1 + e^{-f(θ,x)}) + E_{p(θ)p(x)} log(1 + e^{f(θ,x)})  is reached at
    f = log p(x|θ)/p(x), hence p(θ|x) = p(θ) e^{f(θ,x)}. A pair of the product of marginals takes its θ from another
    simulation. That is the ``binary`` loss. ``multiclass`` asks which of 1 + K parameters made x, one of which did,
    and finds f up to a function of x: -E f(θ_0, x) + E log Σ e^{f(θ_k, x)}. ``balanced`` adds to the binary loss
    100 (E_{p(θ,x)} σ(f) + E_{p(θ)p(x)} σ(f) - 1)², which makes posteriors rather too wide than too narrow.
    ``contrastive`` asks which of K parameters made x, if any: with h_k = f(θ_k, x),

    -½ E log 1/(1 + Σ e^{h_k}/K) - ½ E log (e^{h_1}/K)/(1 + Σ e^{h_k}/K)

    over x of another simulation first, and of that of θ_1 then. All simulations are made before training. Another
    tenth of them is held out from each of several networks, whose weights with the least held-out loss are kept; the
    mean posterior answers.
    Sources: K. Cranmer et al., Approximating likelihood ratios with calibrated discriminative classifiers,
    2015, arXiv 1506.02169; J. Hermans et al., Likelihood-free MCMC with amortized approximate ratio
    estimators, 2020, arXiv 1903.04057; C. Durkan, I. Murray, G. Papamakarios, On contrastive learning for
    likelihood-free inference, 2020, arXiv 2002.03712; B. K. Miller et al., Contrastive neural ratio estimation,
    2022, arXiv 2210.06170; A. Delaunoy et al., Towards reliable simulation-based inference with balanced neural ratio
    estimation, 2022, arXiv 2208.13624.

    Args:
        simulations: simulator calls, made once.
        members: networks.
        width: units of a layer.
        blocks: residual blocks of two layers each.
        contrast: pairs of the product of marginals for each joint pair of a batch, K.
        batch: joint pairs of a batch.
        steps: Adam steps; the learning rate falls to a hundredth along a cosine. By default 400 for a thousand
            simulations, and as the root of their number.
        learning_rate: of the first step.
        loss: by which the ratio is learnt.

    Raises:
        UserError: fewer than 50 simulations.
    """

    ladder: ClassVar[Mapping[str, tuple[int, ...]]] = {"simulations": (500, 1_000, 10_000, 100_000)}

    held_out: Tensor
    """The least held-out loss of each member."""

    def __init__(
        self,
        simulations: Several = 10_000,
        members: Members = 3,
        width: Count = 64,
        blocks: Count = 2,
        contrast: Count = 4,
        batch: Count = 128,
        steps: Count | None = None,
        learning_rate: Positive = 1e-2,
        loss: Literal["multiclass", "binary", "balanced", "contrastive"] = "multiclass",
    ) -> None:
        super().__init__()
        if simulations < LEAST:
            raise UserError(f"expected at least {LEAST} simulations, got {simulations}; make more")
        self.simulations = simulations
        self.members = members
        self.width = width
        self.blocks = blocks
        self.contrast = contrast
        self.batch = batch
        self.steps = steps or ample(simulations)
        self.learning_rate = learning_rate
        self.loss = loss

    def build(self, problem: Simulator) -> None:
        super().build(problem)
        self.pairs: tuple[Tensor, Tensor] | None = None
        sizes = len(problem.parameters), len(problem.data), self.width, self.blocks
        self.network = RatioNetworks(self.members, *sizes, self.real)
        self.kept = deepcopy(self.network).requires_grad_(False)
        self.offsets = by_observation(self._offsets)
        self.register_buffer("held_out", torch.full((self.members,), torch.inf, dtype=self.real))

    def schedule(self) -> tuple[Phase, ...]:
        return (Phase("adam", self.steps, self.learning_rate, decay=0.01),)

    def paired(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the training pairs, (simulations, parameters) and (simulations, data), made on first use."""
        if self.pairs is None:
            theta, x = self.simulated.theta, self.simulated.x
            self.scale.fit(x)
            self.pairs = theta.to(device, self.real), x.to(device, self.real)
        return self.pairs

    def begin(self, stage: int) -> None:
        device = self.theta_mean.device
        rows = torch.arange(len(self.paired(device)[0]), device=device)
        least = len(rows) // FOLDS
        held = torch.stack([rows[k::FOLDS][:least] for k in range(self.members)])
        others = torch.stack(
            [held.roll(shift, dims=1) for shift in range(1, min(1 + HELD_CONTRAST, max(least, 2)))], dim=2
        )
        self.held = torch.cat([held[:, :, None], others], dim=2)
        self.own = [rows[rows % FOLDS != k] for k in range(self.members)]

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        shape, device = (self.batch, 1 + self.contrast), generator.device
        rows = [own[torch.randint(len(own), shape, generator=generator, device=device)] for own in self.own]
        return {"rows": torch.stack(rows, dim=1)}

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: each.sum() for name, each in self._losses(batch["rows"].transpose(0, 1), self.network).items()}

    def adapt(self, batch: Mapping[str, Tensor], step: int | None) -> None:
        if step is None or (step % CHECK and step < self.steps - 1):
            return
        with torch.no_grad():
            loss = torch.stack(list(self._losses(self.held, self.network).values())).sum(dim=0)
            better = loss < self.held_out
            self.held_out[better] = loss[better]
            for kept, now in zip(self.kept.parameters(), self.network.parameters(), strict=True):
                kept[better] = now[better]
            self.offsets = by_observation(self._offsets)  # what they were of other weights is void

    def _losses(self, rows: Tensor, network: RatioNetworks) -> dict[str, Tensor]:
        """Return the terms of each member, shape (members,), at rows (members, n, 1 + contrast), joint pairs first."""
        theta, x = (part[rows] for part in self.paired(self.theta_mean.device))
        f = network(self.standard(theta), self.scale.context(x[:, :, :1]))
        joint, marginal = f[..., 0], f[..., 1:]
        if self.loss == "multiclass":
            return {"ratio": (f.logsumexp(dim=2) - joint).mean(dim=1)}
        if self.loss == "contrastive":
            k, one = marginal.shape[2], torch.zeros_like(f[..., :1])
            of_any, of_none = (
                torch.cat([one, h - math.log(k)], dim=2).logsumexp(dim=2) for h in (f[..., :-1], marginal)
            )
            any_loss = (of_any - joint + math.log(k)).mean(dim=1)
            return {"joint": any_loss / 2, "marginal": of_none.mean(dim=1) / 2}
        terms = {"joint": softplus(-joint).mean(dim=1), "marginal": softplus(marginal).mean(dim=(1, 2))}
        if self.loss == "balanced":
            sides = joint.sigmoid().mean(dim=1) + marginal.sigmoid().mean(dim=(1, 2))
            terms["balance"] = BALANCE * (sides - 1) ** 2
        return terms

    def log_ratio(self, theta: Tensor, x: Tensor) -> Tensor:
        offsets = self.offsets(x.double().cpu().numpy()).to(x)
        return (self._each(theta, x) - offsets).logsumexp(dim=0) - math.log(self.members)

    def _each(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return f of each member at parameters (n, parameters) and data (data,), shape (members, n)."""
        given = self.standard(theta), self.scale.context(x)
        return self.kept(*(part.expand(self.members, *part.shape) for part in given))

    @torch.no_grad()
    def _offsets(self, observation: np.ndarray) -> Tensor:
        """Return log ∫ p(θ) e^f(θ, x) dθ of each member, which may know f up to a function of x; shape (members, 1)."""
        x = torch.as_tensor(observation, dtype=self.real, device=self.theta_mean.device)
        points = self.problem.prior().quasirandom(AVERAGED).to(x)
        return self._each(points, x).logsumexp(dim=1, keepdim=True) - math.log(AVERAGED)
