"""The Jacobian of equations of balance, factorised, as a layer of a network."""

from typing import Any

import torch
from scipy.sparse.linalg import SuperLU, splu
from torch import Tensor

from sciml.grid.balance import Balance, Given, block_diagonal


class Factorised:
    """-J⁻¹ΔF for many imbalances ΔF of the same instances, with J at one state of each.

    What a node lacks is felt on the whole graph in one step. Gradients pass to the imbalance.

    Args:
        balance: the equations.
        state: where J is taken, shape (n, nodes, components).
        given: what is known of the instances.
    """

    def __init__(self, balance: Balance, state: Tensor, given: Given) -> None:
        self._unknown = balance.unknown
        self._whole = balance.solvable(given)
        here = {name: value[self._whole] for name, value in given.items()}
        pattern, values = balance.jacobian(state[self._whole], here)
        matrix = block_diagonal(pattern, values.detach().double().cpu().numpy())
        self._factors = splu(matrix) if len(values) else None

    def __call__(self, imbalance: Tensor) -> Tensor:
        """Return the change of the state, (n, nodes, components); NaN where an instance is not solvable."""
        change = torch.where(self._whole[:, None, None], torch.zeros_like(imbalance), torch.nan)
        if self._factors is None:
            return change
        sought = self._whole[:, None, None] & self._unknown
        solved = _Solve.apply(imbalance[sought], self._factors)
        return change.masked_scatter(sought, -solved)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, right: Tensor, factors: SuperLU) -> Tensor:
        ctx.factors = factors
        return _solve(factors, right, "N")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _solve(ctx.factors, gradients[0], "T"), None


def _solve(factors: SuperLU, right: Tensor, transposed: str) -> Tensor:
    found = factors.solve(right.detach().double().cpu().numpy(), transposed)
    return torch.from_numpy(found).to(right)
