"""What flows in the branches at one state of a grid, and how it changes with the voltages."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array, vstack

from sciml.errors import SolveError
from sciml.grid.balance import newton
from sciml.grid.powerflow import PowerFlow
from sciml.grid.powergrid import PowerGrid

_LEAST = 0.05
"""Of the power by which an error in a branch is divided, in p.u., where the branch is nearly idle."""


@dataclass(frozen=True)
class OperatingPoint:
    """The load flow of the nominal state.

    A branch from i to j sees three differences of the voltages, (θ_i - θ_j, v_i, v_j).

    Args:
        angle: in rad, shape (buses,).
        magnitude: in p.u., shape (buses,).
        flows: P + jQ in p.u. that enters each branch at i and at j were it in service, shape (branches, 2).
        derivative: of the flows by the three differences, shape (branches, 2, 3).
    """

    angle: np.ndarray
    magnitude: np.ndarray
    flows: np.ndarray
    derivative: np.ndarray

    @property
    def scale(self) -> np.ndarray:
        """By what an error of the flows is divided, |S| or 0.05 p.u. where that is less, shape (branches, 2)."""
        return np.maximum(np.abs(self.flows), _LEAST)

    @property
    def shares(self) -> np.ndarray:
        """The derivative on that scale, shape (branches, 2, 3)."""
        return self.derivative / self.scale[..., None]


def flow_measure(grid: PowerGrid, point: OperatingPoint) -> csr_array:
    """Return the map from outputs to flows at both ends of each branch, as shares of the nominal ones, (rows, outputs).

    It is of first order in the voltages, active above reactive; the last row is the slack's angle, with which no shift
    of all angles goes unseen.

    Args:
        grid: the arrays.
        point: its nominal load flow.
    """
    present, width = grid.in_service, 2 * len(grid.numbers)
    i, j = grid.source[present], grid.target[present]
    angle, at_i, at_j = np.moveaxis(point.shares[present], -1, 0)
    values = np.stack([np.deg2rad(1) * angle, -np.deg2rad(1) * angle, at_i, at_j], axis=-1).ravel()
    columns = np.repeat(np.stack([width // 2 + i, width // 2 + j, i, j], axis=-1), 2, axis=0).ravel()
    flows = csr_array((values, columns, np.arange(0, len(values) + 1, 4)), shape=(len(values) // 4, width))
    slack = csr_array(np.eye(1, width, width // 2 + grid.slack))
    return csr_array(vstack([flows.real, flows.imag, slack]))


def operating_point(flow: PowerFlow) -> OperatingPoint:
    """Solve the load flow of the nominal state and derive its flows.

    Args:
        flow: in float64.

    Raises:
        SolveError: the nominal state has no load flow.
    """
    grid = flow.grid
    found = newton(flow, torch.from_numpy(grid.nominal[None]), linear=True)
    if not found.converged.all():
        raise SolveError("the nominal state has no load flow to start from; check its loads")
    angle, magnitude = found.state[0].T.numpy()
    ends = np.stack([grid.source, grid.target], axis=1)
    v, m, y = (magnitude * np.exp(1j * angle))[ends], magnitude[ends], grid.admittances
    near = m**2 * y[:, [0, 1], [0, 1]].conj()
    far = v * (y[:, [0, 1], [1, 0]] * v[:, ::-1]).conj()
    by_near, by_far = (2 * near + far) / m, far / m[:, ::-1]
    by_angle = 1j * far * np.array([1, -1])
    by_source = np.stack([by_near[:, 0], by_far[:, 1]], axis=1)
    by_target = np.stack([by_far[:, 0], by_near[:, 1]], axis=1)
    return OperatingPoint(angle, magnitude, near + far, np.stack([by_angle, by_source, by_target], axis=-1))
