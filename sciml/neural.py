"""Solvers that train networks, with Lightning."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor

from sciml.solution import Solution
from sciml.solver import Context, P, Solver


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one optimiser.

    Args:
        optimizer: Adam, or L-BFGS with strong Wolfe line search on a fixed batch.
        steps: optimiser steps.
        learning_rate: of Adam; L-BFGS takes its step from the line search.
        decay: factor by which Adam's learning rate has shrunk at the end of the phase (cosine).
    """

    optimizer: Literal["adam", "lbfgs"]
    steps: int
    learning_rate: float = 1e-3
    decay: float = 1.0


class NeuralSolver(LightningModule, Solver[P]):
    """A solver whose answer is a trained network.

    A method says how its networks are built, what one batch is, which losses it has there, and how the trained network is
    read as a function; the training itself (schedule, stops, checkpoints, history) is the same for all.
    """

    kind = "neural"
    precision_default: ClassVar[Literal["64", "32"]] = "32"

    real: torch.dtype
    """The dtype in which ``build`` makes every tensor."""

    @abstractmethod
    def build(self, problem: P) -> None:
        """Make the networks and buffers, in dtype ``self.real``."""

    @abstractmethod
    def schedule(self) -> tuple[Phase, ...]:
        """Return the phases of the training."""

    @abstractmethod
    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw one global batch on the generator's device; rows are split over processes along the first dimension."""

    @abstractmethod
    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss terms by name, each a mean over rows; their sum is minimised."""

    @abstractmethod
    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        """Read the networks as a function from inputs (n, inputs) to outputs (n, outputs)."""

    resample_every: int = 1
    """Adam steps between two batches."""

    def solution(self, problem: P, notes: Mapping[str, float | str] | None = None) -> Solution:
        """Wrap the networks as a solution."""
        state = {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}
        return Solution(problem, self.function(), state, notes or {})

    def fresh(self, problem: P, seed: int, real: torch.dtype) -> "NeuralSolver[P]":
        """Return an untrained copy of this solver, its networks built from ``seed``."""
        module = type(self)(**self.settings)
        module.real = real
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module.build(problem)
        return module

    def solve(self, problem: P, context: Context) -> Solution:
        from sciml.fit import fit

        return fit(self, problem, context)

    def restore(self, problem: P, state: Mapping[str, np.ndarray]) -> Solution:
        real = next((torch.from_numpy(a).dtype for a in state.values() if a.dtype.kind == "f"), torch.float32)
        module = self.fresh(problem, 0, real)
        module.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in state.items()})
        return module.solution(problem)
