"""What flows in the branches at one state of a grid, and how it changes with the voltages."""

from dataclasses import dataclass

import numpy as np
import torch

from sciml.errors import SolveError
from sciml.grid.balance import newton
from sciml.grid.powerflow import PowerFlow

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
