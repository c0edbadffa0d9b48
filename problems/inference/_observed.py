"""Tasks of ours, whose observations and reference posterior samples were made once."""

from typing import Annotated, ClassVar

import h5py
import numpy as np
from annotated_types import Interval

from sciml.references import reference_file
from sciml.views.simulator import Simulator

STORED = 5000


class Observed(Simulator):
    """A task with ten observations, each simulated at parameters drawn from the prior.

    They and their posterior samples were made by ``scripts/make_lfi_references.py``: importance resampling, with which
    tempered sequential Monte Carlo and quadrature agree.

    Args:
        observation: which of ten observations is scored.
        samples: posterior samples to compare with as many of the reference.
    """

    checksum: ClassVar[str]
    """sha256 of the file in ``data/`` that bears the task's name."""

    def __init__(
        self,
        observation: Annotated[int, Interval(ge=1, le=10)] = 1,
        samples: Annotated[int, Interval(ge=10, le=STORED)] = STORED,
    ) -> None:
        self.observation = observation
        self.samples = samples

    def observed(self) -> np.ndarray:
        return self.stored("observations")[self.observation - 1]

    def reference(self) -> np.ndarray:
        return self.stored("samples")[self.observation - 1, : self.samples]

    def stored(self, name: str) -> np.ndarray:
        """Return ``observations``, ``true_parameters`` or ``samples`` of all ten observations, float64."""
        with h5py.File(reference_file(f"{self.name}.h5", self.checksum)) as file:
            return np.asarray(file[name], dtype=float)
