"""What a power grid is at, from a few flows that were measured."""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.distributions import LogNormal, Uniform

from sciml.errors import UserError
from sciml.grid.cases import published
from sciml.grid.newton_batch import NewtonBatch
from sciml.grid.powergrid import PowerGrid
from sciml.inference.draws import Draws
from sciml.inference.priors import Prior
from sciml.problem import Variable

from ._observed import Observed

AREAS = ((2, 3, 4, 5), (6, 11, 12, 13), (9, 10, 14))
"""Buses whose loads rise and fall together."""
MEASURED = ("1_2", "2_3", "4_9", "6_13")
NOISE = 3.0
SPREAD = 0.2


class GridState(Observed):
    """Loads of three areas of the IEEE 14-bus grid and the one branch that is out, from four noisy flows.

    y_b ~ N(P_b(θ), (3 MW)²), P_b the active power that enters branch b, of the AC load flow in which every load of
    area a is θ_a times nominal, and the branch that is out is number ⌊θ_4⌋ of those whose outage cuts off no bus;
    log θ_a ~ N(0, 0.2²), θ_4 ~ U(0, 19)

    The load flow is that of ``sciml.grid.newton_batch``, many scenarios side by side. The posterior of the branch is
    discrete, flat between whole numbers. Where there is no load flow, in 2 of 1000 draws of the prior, there are no
    data, and no likelihood.

    Args:
        observation: which of ten observations is scored.
        samples: posterior samples to compare with as many of the reference.
    """

    parameters = (
        *(Variable(f"load_{k}", "1", f"load of buses {', '.join(map(str, a))}") for k, a in enumerate(AREAS, 1)),
        Variable("out", "1", "the branch that is out, by its place among those that may be, and a fraction"),
    )
    failures = "excluded"
    data = tuple(Variable(f"p_{name}", "MW", f"active power into branch {name}") for name in MEASURED)

    @cached_property
    def grid(self) -> PowerGrid:
        """The grid in its nominal state.

        Raises:
            UserError: pandapower is not installed.
        """
        return published("ieee14")

    @cached_property
    def removable(self) -> np.ndarray:
        """The branches without which no bus is cut off, by their places in the grid."""
        return np.flatnonzero(~self.grid.islanded(1.0 - np.eye(len(self.grid.source))))

    @cached_property
    def _solver(self) -> NewtonBatch:
        return NewtonBatch(self.grid)

    def prior(self) -> Prior:
        zero, spread, most = (torch.tensor(v, dtype=torch.float64) for v in (0, SPREAD, len(self.removable)))
        return Prior([*[LogNormal(zero, spread)] * len(AREAS), Uniform(zero, most)])

    def flows(self, theta: Tensor) -> Tensor:
        """Return the active power that enters each measured branch, in MW, shape (n, branches); NaN without a load flow.

        Raises:
            UserError: derivatives are asked for, which the batched load flow does not give.
        """
        if theta.requires_grad:
            raise UserError(f"{self.name} solves its load flows without derivatives; it has no joint score")
        grid, given = self.grid, theta.double().numpy()
        area = np.array([next(k for k, a in enumerate(AREAS) if bus in a) for bus in grid.numbers[grid.loads]])
        inputs = np.tile(grid.nominal, (len(given), 1))
        sections = np.split(inputs, np.cumsum(grid.sections)[:-1], axis=1)
        for loads in sections[:2]:
            loads *= given[:, area]
        out = self.removable[np.clip(given[:, -1].astype(int), 0, len(self.removable) - 1)]
        sections[-1][np.arange(len(given)), out] = 0.0
        found = self._solver.solve(inputs)
        flows = grid.flows(found.voltages, sections[-1])[:, 0].real[:, [grid.branch(name) for name in MEASURED]]
        return torch.from_numpy(np.where(found.converged[:, None], flows, np.nan))

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return draw.normal(self.flows(theta), NOISE)
