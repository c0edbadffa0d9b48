"""How far a training has come, and how far it may go."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sciml.training.settings import Training


@dataclass
class State:
    """How far a training has come; a checkpoint carries it along with the networks and the optimisers.

    ``loss`` was met at the start of the last step; ``best`` and ``stale`` serve the stop by patience;
    ``history`` is the length of the history in bytes; ``scale`` is that of the line search; ``converged``
    says that L-BFGS or Gauss-Newton ended the last phase before its steps were over; ``findings`` are what the trained
    solver says of its answer.
    """

    step: int = 0
    closures: int = 0
    seconds: float = 0.0
    phase: int = 0
    phase_step: int = 0
    loss: float = math.inf
    error: float = math.inf
    best: float = math.inf
    stale: int = 0
    history: int = 0
    scale: float = 1.0
    converged: bool = False
    device: str = "cpu"
    stop_reason: str = ""
    findings: Mapping[str, float | str] = field(default_factory=dict)


class Limits(NamedTuple):
    """The stops of a training, where none is set at a value that is never met."""

    loss: float
    error: float
    patience: float
    seconds: float
    closures: float
    steps: float

    @classmethod
    def of(cls, training: Training) -> "Limits":
        t, never = training, math.inf
        return cls(
            t.target_loss or -never,
            t.target_error or -never,
            t.patience or never,
            t.max_seconds or never,
            t.max_closures or never,
            t.max_steps or never,
        )
