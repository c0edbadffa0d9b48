"""What consumers draw and which line is open, from a few meters on a grid."""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sciml.grid.balance import Given
from sciml.grid.cases import published
from sciml.grid.newton_batch import NewtonBatch
from sciml.grid.powerflow import PowerFlow
from sciml.inference.draws import Draws
from sciml.inference.laws import Normal
from sciml.inference.priors import Prior, box
from sciml.problem import Variable

from ._observed import Observed

CASE = "ieee14"
LOADS = {"3": (50.0, 120.0), "4": (20.0, 60.0), "9": (10.0, 40.0)}
"""Least and greatest active load, in MW, of each bus whose load is sought."""
METERS = ("1_2", "2_3", "4_5", "6_13", "9_14")
NOISE = 3.0
"""Of a meter, in MW."""
TOLERANCE = 1e-11
"""Of the load flow, in p.u.: differences of likelihoods must not feel it."""
LINES = 19
"""Branches that can be open without a bus being cut off."""


class GridState(Observed):
    """Three loads of the 14-bus grid of the IEEE and the line that is open, from five noisy meters.

    y_b ~ N(Re S_b(V), 3² MW²),  S_i(V) = V_i Σ_j conj(Y_ij V_j),  Y without the open line
    with P_3 ~ U(50, 120), P_4 ~ U(20, 60), P_9 ~ U(10, 40) MW at constant power factors, c ~ U(0, 19)

    The whole part of c counts the branches of the grid that can be open without a bus being cut off, each as likely;
    what is behind its point says nothing. So the likelihood is a step function of c: its posterior is flat on each
    line's interval, and several lines may explain what is seen. The load flow is solved by Newton's method on the whole
    batch, and one more step of it differentiates through to the loads.
    Source: the IEEE grid is from the Power Systems Test Case Archive of the University of Washington, as pandapower
    has it; prior, meters and observations are ours.

    Args:
        observation: which of ten observations is scored.
        samples: posterior samples to compare with as many of the reference.
    """

    checksum = "c780c79f60e6a64ca8b00c841068ed6bbcf9f586fe6e17c406003e6bfd1cfda3"
    parameters = (
        *(Variable(f"load_bus{bus}", "MW") for bus in LOADS),
        Variable("open_line", "1", "its whole part counts the lines that may be open"),
    )
    data = tuple(Variable(f"p_{branch}", "MW") for branch in METERS)

    def prior(self) -> Prior:
        return box(*zip(*LOADS.values(), (0.0, float(LINES)), strict=True))

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return draw.normal(self.flows(theta), NOISE)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        return Normal(self.flows(theta), NOISE).log_prob(x).sum(dim=1)

    def flows(self, theta: Tensor) -> Tensor:
        """Return the active power that enters each metered branch, in MW, shape (n, 5); NaN without a load flow."""
        flow, inputs = self._flow, self.scenarios(theta)
        found = self._newton.solve(inputs.detach().numpy())
        voltages = torch.from_numpy(np.where(found.converged[:, None], found.voltages, np.nan))
        state, given = torch.stack([voltages.angle(), voltages.abs()], dim=-1), flow.read(inputs)
        if theta.requires_grad:
            state = self._differentiable(state, given)
        meters = [flow.grid.branch(name) for name in METERS]
        return flow.grid.base * flow.flows(state, given)[0][:, meters]

    def scenarios(self, theta: Tensor) -> Tensor:
        """Return the scenarios of the grid that parameters state, shape (n, inputs)."""
        grid, statuses = self._flow.grid, self._statuses
        nominal = torch.from_numpy(grid.nominal)
        active = torch.tensor([list(grid.loads).index(grid.bus(bus)) for bus in LOADS])
        reactive = active + len(grid.loads)
        loads, line = theta[:, : len(LOADS)].double(), theta[:, -1].long().clamp(0, LINES - 1)
        powers = nominal.expand(len(theta), -1).index_copy(1, active, loads)
        powers = powers.index_copy(1, reactive, loads * (nominal[reactive] / nominal[active]))
        return torch.cat([powers[:, : -statuses.shape[1]], statuses[line]], dim=1)

    def _differentiable(self, state: Tensor, given: Given) -> Tensor:
        """Return the state after one more Newton step, whose derivatives are those of the solution."""
        flow = self._flow
        with torch.no_grad():
            pattern, values = flow.jacobian(state, given)
            jacobian = torch.zeros(len(state), pattern.size, pattern.size, dtype=state.dtype)
            jacobian[:, torch.from_numpy(pattern.rows), torch.from_numpy(pattern.columns)] = values
        lack = flow.imbalance(state, given)[:, flow.unknown]
        step = torch.zeros_like(state)
        step[:, flow.unknown] = torch.linalg.solve(jacobian, lack)
        return state - step

    @cached_property
    def _flow(self) -> PowerFlow:
        return PowerFlow(published(CASE))

    @cached_property
    def _newton(self) -> NewtonBatch:
        return NewtonBatch(self._flow.grid, TOLERANCE)

    @cached_property
    def _statuses(self) -> Tensor:
        """Which branches are in service while each line that may be open is, shape (lines, branches), float64."""
        statuses = 1.0 - np.eye(len(self._flow.grid.source))
        return torch.from_numpy(statuses[~self._flow.grid.islanded(statuses)])
