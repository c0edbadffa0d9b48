"""A learnt simulator in the place of the simulator."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from sciml.inference.scales import DataScale
from sciml.inference.simulations import Simulations
from sciml.inference.two_sample import told_apart
from sciml.neural import NeuralSolver, Phase
from sciml.parameters import Count, Positive, Several
from sciml.solution import Posterior
from sciml.views.simulator import Simulator

from ._generators import FlowGenerator, Generator, WassersteinGAN
from .rejection_abc import RejectionABC

HELD = 10
"""One simulation in so many is held out."""
CHECK = 25
"""Steps between two looks at the held-out loss of a flow."""
REPEATED = 100
"""Data drawn at each parameter of the two-sample test, from the simulator and from the network."""
FEWEST = 10
"""Simulations at a parameter that did not fail, from which on there is a test."""
SIGNIFICANT = 0.05


class Surrogate(NeuralSolver[Simulator]):
    """A network learns to draw data as the simulator does, q(x|θ) ≈ p(x|θ), and inference goes on with its data.

    It costs next to nothing to draw from, so the posterior is that of rejection_abc on many times as many data as
    the simulator made. How good a simulator it is shows at parameters that were never trained on: at each of them a
    two-sample test compares fresh data of both. ``two_sample`` is the mean accuracy with which they are told apart, 0.5
    at best; ``two_sample_worst`` the greatest; ``two_sample_rejected`` the share of parameters at which the laws differ
    at the level of 5 %. ``check_calls`` counts the simulations that this takes.

    Args:
        simulations: simulator calls to learn from, made once.
        model: a flow of coupling layers, or a Wasserstein GAN with gradient penalty.
        width: units of a hidden layer.
        batch: simulations of a batch.
        steps: Adam steps; the learning rate falls to a hundredth along a cosine.
        learning_rate: of the first step.
        multiple: data that the network draws for inference, by simulations.
        kept: the nearest of them that are kept.
        unseen: parameters at which the network is compared with the simulator; 0 leaves it out.
    """

    needs = Simulator
    ladder: ClassVar[Mapping[str, tuple[int, ...]]] = {"simulations": (500, 1_000, 10_000, 100_000)}

    def __init__(
        self,
        simulations: Several = 10_000,
        model: Literal["flow", "gan"] = "flow",
        width: Count = 64,
        batch: Count = 256,
        steps: Count = 3000,
        learning_rate: Positive = 1e-3,
        multiple: Count = 10,
        kept: Several = 100,
        unseen: Annotated[int, Ge(0)] = 20,
    ) -> None:
        super().__init__()
        self.simulations = simulations
        self.model: Literal["flow", "gan"] = model
        self.width = width
        self.batch = batch
        self.steps = steps
        self.learning_rate = learning_rate
        self.multiple = multiple
        self.kept = kept
        self.unseen = unseen

    def build(self, problem: Simulator) -> None:
        self.problem = problem
        kind = FlowGenerator if self.model == "flow" else WassersteinGAN
        data, given = len(problem.data), len(problem.parameters)
        self.scale = DataScale(data, self.real)
        self.network: Generator = kind(data, given, self.width, self.real)

    def schedule(self) -> tuple[Phase, ...]:
        return (Phase("adam", self.steps, self.learning_rate, 0.01, betas=self.network.betas),)

    @cached_property
    def simulated(self) -> Simulations:
        """What the network learns from, made on first use."""
        return self.problem.simulations(self.simulations, self.seed)

    def begin(self, stage: int) -> None:
        """Fix the scale of the data, and let the network begin with what needs no training."""
        theta, x = self.simulated.theta, self.simulated.x
        self.scale.fit(x)
        device = self.scale.width.device
        self.x, self.given = x.to(device, self.real), self._given(theta)
        rows = torch.arange(len(x), device=device)
        self.held, self.own = rows[::HELD], rows[rows % HELD > 0]
        self.network.start(self.scale(self.x[self.own]), self.given[self.own])

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        device, count = generator.device, (self.batch,)
        rows = self.own[torch.randint(len(self.own), count, generator=generator, device=device)]
        shapes = {"spread": self.x.shape[1], "mix": 1}
        batch = {
            name: torch.rand(*count, size, generator=generator, device=device, dtype=self.real)
            for name, size in shapes.items()
        }
        z = torch.randn(*count, self.network.noise, generator=generator, device=device, dtype=self.real)
        return {"x": self.x[rows], "given": self.given[rows], "z": z, **batch}

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        y = self.scale(batch["x"], batch["spread"] - 0.5)
        return self.network.losses(y, batch["given"], batch["z"], batch["mix"])

    def adapt(self, batch: Mapping[str, Tensor], step: int | None) -> None:
        if self.model == "gan" or (step is not None and (step % CHECK == 0 or step == self.steps - 1)):
            self.network.keep(self.scale(self.x[self.held]), self.given[self.held])

    @torch.no_grad()
    def draw(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """Draw data (n, data) at parameters (n, parameters) from the network, float64 on the CPU."""
        blocks = []
        for c in self._given(theta).split(2**13):
            z = torch.randn(len(c), self.network.noise, generator=generator, dtype=self.real).to(c)
            blocks.append(self.scale.inverse(self.network.bend(z, c)).cpu())
        return torch.cat(blocks)

    def _given(self, theta: Tensor) -> Tensor:
        return self.problem.prior().scaled(theta).to(self.scale.width)

    def findings(self, batch: Mapping[str, Tensor]) -> Mapping[str, float | str]:
        return {**self.simulated.notes(self.problem.observed()), **self.compared()}

    def compared(self) -> dict[str, float]:
        """Return what two-sample tests at parameters never trained on say."""
        if not self.unseen:
            return {}
        generator = torch.Generator().manual_seed(self.seed)
        theta = self.problem.prior().sample(self.unseen, generator).repeat_interleave(REPEATED, dim=0)
        true, made = self.problem.simulated(theta, generator), self.draw(theta, generator)
        good = true.isfinite().all(dim=1)
        parts = zip(*(rows.split(REPEATED) for rows in (true, made, good)), strict=True)
        tests = [told_apart(one[kept], other[kept], generator) for one, other, kept in parts if kept.sum() > FEWEST]
        if not tests:
            return {"check_calls": float(len(theta))}
        accuracies = [test.accuracy for test in tests]
        return {
            "check_calls": float(len(theta)),
            "two_sample": float(np.mean(accuracies)),
            "two_sample_worst": max(accuracies),
            "two_sample_rejected": float(np.mean([test.p_value < SIGNIFICANT for test in tests])),
        }

    @cached_property
    def answer(self) -> Posterior:
        """The posterior by data of the network."""
        generator = torch.Generator().manual_seed(0)
        theta = self.problem.prior().sample(self.multiple * self.simulations, generator)
        made = {"theta": theta.numpy(), "x": self.draw(theta, generator).numpy()}
        return RejectionABC(self.simulations, self.kept).restore(self.problem, made)

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        return lambda observations: self.answer.function(observations)

    def solution(self, problem: Simulator, notes: Mapping[str, float | str] | None = None) -> Posterior:
        plain = super().solution(problem)
        said = {"simulator_calls": float(self.simulations), **(notes or {})}

        def sampler(count: int, observation: np.ndarray, seed: int) -> np.ndarray:
            return self.answer.sampler(count, observation, seed)

        return Posterior(problem, plain.function, plain.state, said, sampler=sampler)
