"""Equations of balance on the nodes of a graph, and Newton's method on many instances of them at once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import splu
from torch import Tensor, nn

Given = Mapping[str, Tensor]
"""What is known of each instance, as tensors of shape (n, ...)."""


@dataclass(frozen=True)
class Pattern:
    """Where a square sparse matrix has entries, column by column and sorted within each column.

    Args:
        rows: shape (entries,).
        columns: shape (entries,).
        size: number of rows.
    """

    rows: np.ndarray
    columns: np.ndarray
    size: int

    @classmethod
    def of(cls, rows: np.ndarray, columns: np.ndarray, size: int) -> "tuple[Pattern, np.ndarray]":
        """Return the pattern of contributions, several of which may meet in an entry, and the entry of each."""
        places, entry_of = np.unique(columns * size + rows, return_inverse=True)
        return cls(places % size, places // size, size), entry_of


class Balance(nn.Module, ABC):
    """Each node has a state and must be in balance; both have as many components.

    Component c of node i is either unknown, and then its balance must hold, or known from what is given. All
    tensors are buffers, so that the balance follows a network to its device.
    """

    edges: Tensor
    """Source and target node of each directed edge, shape (2, edges)."""
    unknown: Tensor
    """Which components of the state are sought, shape (nodes, components), bool."""

    @abstractmethod
    def read(self, inputs: Tensor) -> Given:
        """Return what inputs of shape (n, inputs) say, in the units of the equations."""

    @abstractmethod
    def solvable(self, given: Given) -> Tensor:
        """Return which instances have every node connected to the reference node, shape (n,), bool."""

    @abstractmethod
    def start(self, given: Given) -> Tensor:
        """Return a state to start from, its known components set, shape (n, nodes, components)."""

    def linear_start(self, given: Given) -> Tensor:
        """Return a better state to start from, where a linearised balance gives one, like ``start``."""
        return self.start(given)

    @abstractmethod
    def imbalance(self, state: Tensor, given: Given) -> Tensor:
        """Return what each node lacks, shape (n, nodes, components); zero at every node of a solution."""

    @abstractmethod
    def jacobian(self, state: Tensor, given: Given) -> tuple[Pattern, Tensor]:
        """Return the unknown components' imbalance derived by them: a pattern and values, (n, entries)."""

    @abstractmethod
    def node_features(self, given: Given) -> Tensor:
        """Return what a network is told of each node beside its imbalance, (n, nodes, features), of order one."""

    @abstractmethod
    def edge_features(self) -> Tensor:
        """Return what a network is told of each edge, of order one, shape (edges, features)."""

    @abstractmethod
    def presence(self, given: Given) -> Tensor:
        """Return how much of each edge is there, from 0 (cut) to 1, shape (n, edges)."""

    @abstractmethod
    def outputs(self, state: Tensor) -> Tensor:
        """Return the problem's outputs, shape (n, outputs), of a state."""


@dataclass(frozen=True)
class Iterate:
    """Where Newton's method ended on each of n instances.

    Args:
        state: shape (n, nodes, components); NaN where the instance is not solvable or Newton broke down.
        mismatch: greatest imbalance of an unknown component, shape (n,).
        iterations: steps taken, shape (n,).
        converged: shape (n,), bool.
    """

    state: Tensor
    mismatch: Tensor
    iterations: Tensor
    converged: Tensor


def newton(
    balance: Balance, inputs: Tensor, tolerance: float = 1e-10, iterations: int = 20, linear: bool = False
) -> Iterate:
    """Solve the equations of balance by sparse Newton-Raphson from ``balance.start``, side by side.

    Args:
        balance: the equations, in float64.
        inputs: shape (n, inputs).
        tolerance: an instance is done once its greatest imbalance is at most this.
        iterations: the most steps.
        linear: whether to start from ``balance.linear_start`` instead.
    """
    given = balance.read(inputs)
    state = balance.linear_start(given) if linear else balance.start(given)
    mismatch = torch.full((len(inputs),), torch.inf, dtype=state.dtype)
    taken = torch.zeros(len(inputs), dtype=torch.long)
    solvable = balance.solvable(given)
    state[~solvable] = torch.nan
    active = solvable.nonzero().squeeze(1)
    for step in range(iterations + 1):
        here = {name: value[active] for name, value in given.items()}
        residual = balance.imbalance(state[active], here)[:, balance.unknown]
        mismatch[active] = residual.abs().amax(1)
        taken[active] = step
        left = mismatch[active] > tolerance  # false for NaN, where no step leads on
        active, here, residual = active[left], {k: v[left] for k, v in here.items()}, residual[left]
        if step == iterations or not len(active):
            break
        pattern, values = balance.jacobian(state[active], here)
        update = solve_blocks(pattern, values.numpy(), residual.numpy())
        changed = state[active]
        changed[:, balance.unknown] -= torch.from_numpy(update)
        state[active] = changed
    return Iterate(state, mismatch, taken, mismatch <= tolerance)


def solve_blocks(pattern: Pattern, values: np.ndarray, right: np.ndarray, together: int = 64) -> np.ndarray:
    """Solve n sparse systems of one pattern by LU, ``together`` at once as one block-diagonal matrix.

    Args:
        pattern: of every matrix.
        values: shape (n, entries).
        right: right-hand sides, shape (n, size).
        together: systems in one factorisation.

    Returns:
        Shape (n, size); NaN for a singular matrix.
    """
    n, size = right.shape
    if not n:
        return right
    if n > together:
        parts = [slice(i, i + together) for i in range(0, n, together)]
        return np.concatenate([solve_blocks(pattern, values[p], right[p], together) for p in parts])
    try:
        return splu(block_diagonal(pattern, values)).solve(right.ravel()).reshape(n, size)
    except RuntimeError:  # one singular block spoils the factorisation of all
        if n == 1:
            return np.full_like(right, np.nan)
        return np.concatenate([solve_blocks(pattern, values[i : i + 1], right[i : i + 1]) for i in range(n)])


def block_diagonal(pattern: Pattern, values: np.ndarray) -> csc_matrix:
    """Return n matrices of one pattern as the blocks of one, for values of shape (n, entries)."""
    n, size = len(values), pattern.size
    rows = (pattern.rows + size * np.arange(n)[:, None]).ravel()
    counts = np.tile(np.bincount(pattern.columns, minlength=size), n)
    starts = np.concatenate([[0], np.cumsum(counts)])
    return csc_matrix((values.ravel(), rows, starts), shape=(n * size, n * size))
