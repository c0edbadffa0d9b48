"""Solvers that train networks, with Lightning."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer

from sciml.errors import missing
from sciml.solution import Solution
from sciml.solver import Context, P, Solver
from sciml.training.gauss_newton import LevenbergMarquardt
from sciml.training.natural_gradient import NaturalGradient
from sciml.training.quasi_newton import SelfScaledQuasiNewton


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one optimiser.

    Args:
        optimizer: Adam or SOAP; L-BFGS with strong Wolfe line search on a fixed batch; the self-scaled quasi-Newton
            methods ssbfgs and ssbroyden, with full memory; Levenberg-Marquardt (lm) on the residuals; or their natural
            gradient with momentum (engd), on points drawn anew for every step. Quasi-Newton and Levenberg-Marquardt
            take further batches from ``resample``.
        steps: optimiser steps; for L-BFGS one step is one line search.
        learning_rate: of Adam or SOAP; the others find the length of their steps themselves.
        decay: the learning rate ends at ``decay * learning_rate``, along a cosine; in (0, 1].
        stage: which of the networks that are trained one after the other it belongs to.
        betas: shares of Adam's running means of gradients and of their squares that a step leaves.

    Raises:
        ValueError: no step, or a decay out of its range.
    """

    optimizer: Literal["adam", "soap", "lbfgs", "ssbfgs", "ssbroyden", "lm", "engd"]
    steps: int
    learning_rate: float = 1e-3
    decay: float = 1.0
    stage: int = 0
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.decay <= 1:
            raise ValueError(f"a phase needs at least one step and a decay in (0, 1], got {self}")

    @property
    def first_order(self) -> bool:
        """Whether steps follow from one gradient of the losses each, and so may use another batch and weight each."""
        return self.optimizer in ("adam", "soap")

    def rate(self, step: int) -> float:
        """Return the learning rate at a step of the phase."""
        cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.learning_rate * (self.decay + (1 - self.decay) * cosine)

    def make(self, parameters: Iterable[Tensor]) -> Optimizer:
        """Make the optimiser.

        Raises:
            UserError: its library is not installed, or its memory would be too large.
        """
        match self.optimizer:
            case "adam":
                return torch.optim.Adam(parameters, lr=self.learning_rate, betas=self.betas, fused=True)
            case "soap":
                return _soap(parameters, self.learning_rate)
            case "ssbfgs":
                return SelfScaledQuasiNewton(parameters, "bfgs")
            case "ssbroyden":
                return SelfScaledQuasiNewton(parameters, "broyden")
            case "lm":
                return LevenbergMarquardt(parameters)
            case "engd":
                return NaturalGradient(parameters)
            case "lbfgs":
                # One line search at a time and no stops of torch's: the training looks at its own after every step.
                return torch.optim.LBFGS(
                    parameters,
                    max_iter=1,
                    max_eval=26,
                    history_size=50,
                    tolerance_grad=0,
                    tolerance_change=0,
                    line_search_fn="strong_wolfe",
                )


def _soap(parameters: Iterable[Tensor], learning_rate: float) -> Optimizer:
    try:
        from pytorch_optimizer import SOAP
    except ImportError:
        raise missing("soap", "pytorch_optimizer", "optimizers") from None
    return SOAP(parameters, lr=learning_rate, weight_decay=0.0, precondition_1d=True)


class NeuralSolver(LightningModule, Solver[P]):
    """A solver whose answer is a trained network.

    A method says how its networks are built, what one batch is, which losses it has there, and how the
    trained network is read as a function; the training itself (stops, checkpoints) is the same for all.
    """

    kind = "neural"
    precision_default: ClassVar[Literal["64", "32"]] = "32"
    """Bits of a real number where the training asks for none, on a CPU and on a GPU."""
    takes_bf16: ClassVar[bool] = False
    """Whether the losses keep their meaning in bfloat16: no derivatives of the networks, no L-BFGS."""

    advance: Callable[[], None]
    """Takes the optimiser steps up to the next check; the training sets it."""

    real: torch.dtype
    """The dtype in which ``build`` makes every tensor."""
    seed: int
    """That of the run, from which networks are built."""

    @abstractmethod
    def build(self, problem: P) -> None:
        """Make the networks and buffers, in dtype ``self.real``."""

    @abstractmethod
    def schedule(self) -> tuple[Phase, ...]:
        """Return the phases of the training."""

    @abstractmethod
    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw one global batch on the generator's device; processes share the rows (first dimension)."""

    @abstractmethod
    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss terms by name, each a mean over rows; their sum is minimised."""

    def residuals(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return by name the residuals whose mean squares are the losses; a phase of Gauss-Newton needs them."""
        raise NotImplementedError(f"{self.name} has losses that are no sums of squares")

    def resample(self, generator: torch.Generator, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Draw the batch that follows another one in a phase of Gauss-Newton or of a quasi-Newton method."""
        return self.sample(generator)

    def begin(self, stage: int) -> None:
        """Begin, or go on, with the training of one stage's network; ``schedule`` says how many there are."""

    def trained(self, stage: int) -> list[Tensor]:
        """Return the parameters that a stage trains."""
        return [p for p in self.parameters() if p.requires_grad]

    def adapt(self, batch: Mapping[str, Tensor], step: int | None) -> None:
        """Bring weights of the losses up to date, all of them buffers.

        Args:
            batch: at hand, in this process.
            step: number of a first-order method's step that comes next; None before one of Gauss-Newton, and where a
                quasi-Newton method has a new batch.
        """

    @property
    def settled(self) -> bool:
        """Whether weights of the losses leave nothing out, so that a low loss means that the training is done."""
        return True

    @property
    def answered(self) -> bool:
        """Whether the answer is found by other means, so that no further step is taken."""
        return False

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Names of the loss terms where they differ from stage to stage: those of all stages."""
        return ()

    @abstractmethod
    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        """Read the networks, on the device where they are, as a function (n, inputs) -> (n, outputs)."""

    def findings(self, batch: Mapping[str, Tensor]) -> Mapping[str, float | str]:
        """Return what the trained networks tell besides the answer, such as intervals, for the notes."""
        return {}

    resample_every: int = 1
    """Steps between two batches, but for those of L-BFGS (one batch a phase) and engd (one a step)."""

    def configure_optimizers(self) -> list[Optimizer]:
        """Return one optimiser for each phase; Lightning saves and restores them."""
        return [phase.make(self.trained(phase.stage)) for phase in self.schedule()]

    def training_step(self, *_: Any) -> None:
        self.advance()

    def solution(self, problem: P, notes: Mapping[str, float | str] | None = None) -> Solution:
        """Wrap the networks as a solution."""
        state = {name: value.detach().cpu().numpy() for name, value in self.state_dict().items()}
        return Solution(problem, self.function(), state, notes or {})

    def fresh(self, problem: P, seed: int, real: torch.dtype) -> "NeuralSolver[P]":
        """Return an untrained copy of this solver, its networks built from ``seed``."""
        module = type(self)(**self.settings)
        module.real, module.seed = real, seed
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the GPUs as well
            module.build(problem)
        return module

    def solve(self, problem: P, context: Context) -> Solution:
        from sciml.training.fit import fit

        return fit(self, problem, context)

    def restore(self, problem: P, state: Mapping[str, np.ndarray]) -> Solution:
        tensors = {name: torch.from_numpy(np.array(a)) for name, a in state.items()}
        module = self.fresh(problem, 0, real_of(tensors))
        module.load_state_dict(tensors)
        return module.solution(problem)


def real_of(state: Mapping[str, Tensor]) -> torch.dtype:
    """Return the dtype of the networks in a state: its least precise real one, as buffers may be more precise."""
    found = [tensor.dtype for tensor in state.values() if tensor.is_floating_point()]
    return min(found, key=lambda dtype: dtype.itemsize, default=torch.float32)
