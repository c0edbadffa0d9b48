"""The view of states in balance on the nodes of a graph."""

from abc import abstractmethod
from typing import Literal

import numpy as np
import torch

from sciml.grid.balance import Balance
from sciml.problem import Problem


class Graph(Problem):
    """A state on the nodes of a graph, in balance at each node for what the inputs say."""

    @abstractmethod
    def balance(self, real: torch.dtype = torch.float64) -> Balance:
        """Return the equations of balance, from the problem's inputs to its outputs, as a new module."""

    @abstractmethod
    def scenarios(self, split: Literal["train", "test"]) -> np.ndarray:
        """Return inputs, (n, inputs), to train on without labels, or those on which solutions are scored."""
