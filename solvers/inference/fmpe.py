"""Flow matching posterior estimation."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sciml.inference.flows import FlowKind
from sciml.parameters import Count, Positive, Several

from ._flows import CHECK, Members
from ._posterior import PosteriorFlows

REPEATS = 8
"""Paths through each held-out simulation."""


class FMPE(PosteriorFlows):
    """A velocity carries normal noise to the posterior of any data, and is learnt by regression.

    min over v of E |v(θ_t, t, x) - dθ_t/dt|² over paths θ_t from θ to noise is reached at the velocity that carries
    p(θ|x) to the noise; samples are carried back, and their density follows from the divergence of v along the way.
    The networks are free of the structure that invertible maps need, and cost an integration a sample. With several
    rounds the later simulations close in on the observation that is scored. Of several members the mean density
    answers.
    Sources: J. Wildberger et al., Flow matching for scalable simulation-based inference, 2023, arXiv 2305.17161;
    M. Deistler et al., Truncated proposals for scalable and hassle-free simulation-based inference, 2022, arXiv
    2210.04815.

    Args:
        simulations: simulator calls of all rounds.
        rounds: 1 answers any observation; with more, the later ones close in on the one that is scored.
        members: velocities that are learnt, each from other simulations.
        width: units of a hidden layer.
        batch: simulations of a batch.
        steps: Adam steps of a round; the learning rate falls to a hundredth along a cosine.
        learning_rate: of the first step.
    """

    def __init__(
        self,
        simulations: Several = 10_000,
        rounds: Count = 1,
        members: Members = 3,
        width: Count = 64,
        batch: Count = 128,
        steps: Count = 2000,
        learning_rate: Positive = 2e-3,
    ) -> None:
        super().__init__(simulations, rounds, members, "choose", width, batch, steps, learning_rate)

    @property
    def kinds(self) -> tuple[FlowKind, ...]:
        return ("matched",)

    def begin(self, stage: int) -> None:
        super().begin(stage)
        self.held_often = self.held.repeat(1, REPEATS)
        generator = torch.Generator().manual_seed(self.simulation_seed + stage)
        self.held_noise = tuple(part.to(self.scores) for part in self._noise(self.held_often.shape[1], generator))

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        z, t = self._noise(self.batch, generator)
        return {**super().sample(generator), "z": z.transpose(0, 1), "t": t.transpose(0, 1)}

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        noise = batch["z"].transpose(0, 1), batch["t"].transpose(0, 1)
        return {"velocity": self.ensemble("posterior").loss(*self.targets(batch["rows"].T)["posterior"], *noise)}

    def adapt(self, batch: Mapping[str, Tensor], step: int | None) -> None:
        if step is not None and (step % CHECK == 0 or step == self.steps - 1):
            self.ensemble("posterior").keep(*self.targets(self.held_often)["posterior"], *self.held_noise)

    def _noise(self, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return where paths end, (members, rows, parameters), and times along them, evenly spread, (..., 1)."""
        device, shape = generator.device, (self.members, rows)
        z = torch.randn(*shape, len(self.problem.parameters), generator=generator, device=device, dtype=self.real)
        jitter = torch.rand(*shape, generator=generator, device=device, dtype=self.real)
        return z, ((torch.arange(rows, device=device) + jitter) / rows)[..., None]
