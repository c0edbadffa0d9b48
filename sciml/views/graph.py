"""The view of states in balance on the nodes of a graph."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from sciml.grid.balance import Balance
from sciml.problem import Problem

Way = Callable[[Balance], Callable[[np.ndarray], np.ndarray]]
"""A way to solve equations of balance: the function from inputs (n, inputs) to outputs (n, outputs)."""


class Graph(Problem):
    """A state on the nodes of a graph, in balance at each node for what the inputs say."""

    @abstractmethod
    def balance(self, real: torch.dtype = torch.float64) -> Balance:
        """Return the equations of balance, from the problem's inputs to its outputs, as a new module."""

    @abstractmethod
    def scenarios(self, split: Literal["train", "test"]) -> np.ndarray:
        """Return inputs, (n, inputs), to train on without labels, or those on which solutions are scored."""

    @property
    def is_plain(self) -> bool:
        """Whether an answer keeps the balance and nothing beside it."""
        return True

    def answered(self, way: Way) -> Callable[[np.ndarray], np.ndarray]:
        """Return the function from inputs to outputs that a way to solve equations of balance makes.

        A problem whose answer keeps more than the balance solves balances of other inputs, or with other components
        unknown, until it does.
        """
        return way(self.balance())
