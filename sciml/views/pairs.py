"""The view of inputs and outputs of a classical solver, under changes of structure."""

from abc import abstractmethod
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from sciml.errors import UserError
from sciml.problem import Problem


class Pairs(Problem):
    """Outputs y that a classical solver found for inputs x and structure τ.

    τ is how far the structure is from the intact one: zero while nothing is changed.
    """

    @property
    @abstractmethod
    def structure(self) -> np.ndarray:
        """Which inputs state the structure, shape (inputs,), bool."""

    @property
    @abstractmethod
    def intact(self) -> np.ndarray:
        """The values of these inputs in the intact structure, shape (structural inputs,)."""

    @property
    @abstractmethod
    def measure(self) -> csr_array:
        """M of full column rank, shape (rows, outputs): an error e of the outputs is as large as |M e|."""

    @abstractmethod
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Return points (n, inputs) and outputs (n, outputs) to train on."""

    def record(self, folder: Path, count: int, shard: int, workers: int) -> int:
        """Write examples to train on to a folder, those shards that it does not hold yet, and return how many.

        Args:
            folder: made where there is none.
            count: examples.
            shard: examples in a file.
            workers: files in the making at once.

        Raises:
            UserError: the problem writes none, or the folder holds others.
        """
        raise UserError(f"{self.name} writes no examples to disk; train on its pairs in memory, which sciml train does")

    def divided(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return x, shape (n, other inputs), and τ, shape (n, changes), of points (n, inputs).

        A problem with changes that no input of their own states, but special values of others, adds them to τ.
        """
        return points[:, ~self.structure], self.intact - points[:, self.structure]
