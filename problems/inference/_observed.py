"""Tasks of ours, whose observations and reference posterior samples were made once."""

from typing import Annotated

import h5py
import numpy as np
from annotated_types import Interval

from sciml.references import reference_file
from sciml.views.simulator import Simulator

POSTERIORS = ("lfi_posteriors.h5", "0" * 64)
STORED = 5000


class Observed(Simulator):
    """A task with ten observations, each simulated at parameters drawn from the prior.

    They were made with their posterior samples by ``scripts/make_lfi_references.py``, which says how.

    Args:
        observation: which of ten observations is scored.
        samples: posterior samples to compare with as many of the reference.
    """

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
        with h5py.File(reference_file(*POSTERIORS)) as file:
            return np.asarray(file[f"{self.name}/{name}"], dtype=float)
