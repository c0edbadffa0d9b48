"""Tasks of the public benchmark, with its observations."""

from typing import Annotated

import h5py
import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor

from sciml.references import reference_file
from sciml.views.simulator import Simulator

TASKS = ("lfi_tasks.h5", "6b8e48e8d720573124b804116269b8d9f2a271aad41932d72abbc02177d0d9cc")


class Published(Simulator):
    """A task of J.-M. Lueckmann et al., Benchmarking simulation-based inference, 2021, arXiv 2101.04653.

    Args:
        observation: which of the ten published observations is scored.
        samples: posterior samples to compare with as many of the reference; 10 000 as published.
    """

    def __init__(
        self,
        observation: Annotated[int, Interval(ge=1, le=10)] = 1,
        samples: Annotated[int, Interval(ge=10, le=10_000)] = 10_000,
    ) -> None:
        self.observation = observation
        self.samples = samples

    def observed(self) -> np.ndarray:
        return self.published("observations")[self.observation - 1]

    def published(self, name: str, task: str | None = None) -> np.ndarray:
        """Return an array of the task, or of another one, float64."""
        with h5py.File(reference_file(*TASKS)) as file:
            return np.asarray(file[f"{task or self.name}/{name}"], dtype=float)

    def constant(self, name: str) -> Tensor:
        """Return a fixed input of the simulator, float64."""
        return torch.from_numpy(self.published(name))
