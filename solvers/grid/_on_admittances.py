"""Peers that solve one load flow at a time from its admittance matrix."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csc_matrix

from sciml.grid.newton_batch import outputs
from sciml.grid.powerflow import PowerFlow
from sciml.grid.powergrid import PowerGrid
from sciml.parameters import Count, Positive

from ._on_load_flow import OnLoadFlow


@dataclass(frozen=True)
class Buses:
    """The buses by what is known of them, as 32-bit integers.

    Args:
        slack: shape (1,).
        held: those that hold their voltage beside it.
        free: the others.
        count: of all.
    """

    slack: np.ndarray
    held: np.ndarray
    free: np.ndarray
    count: int

    @classmethod
    def of(cls, grid: PowerGrid) -> "Buses":
        regulated, count = grid.regulated.astype(np.int32), len(grid.numbers)
        return cls(regulated[:1], regulated[1:], np.setdiff1d(np.arange(count, dtype=np.int32), regulated), count)


Solve = Callable[[csc_matrix, np.ndarray, np.ndarray], np.ndarray]
"""From admittances, injected powers and voltages to start from, all in p.u., to voltages; NaN without convergence."""


class OnAdmittances(OnLoadFlow):
    """Starts from the DC load flow, and makes the matrix of each scenario anew.

    Args:
        tolerance: greatest mismatch at which a scenario is solved, in p.u.
        iterations: the most steps.
    """

    kind = "peer"

    def __init__(self, tolerance: Positive = 1e-8, iterations: Count = 20) -> None:
        self.tolerance = tolerance
        self.iterations = iterations

    @abstractmethod
    def solver(self, buses: Buses) -> Solve:
        """Return the function that solves one load flow.

        Raises:
            UserError: the package is not installed.
        """

    def answer(self, flow: PowerFlow) -> Callable[[np.ndarray], np.ndarray]:
        grid, buses = flow.grid, Buses.of(flow.grid)
        solve = self.solver(buses)

        def function(points: np.ndarray) -> np.ndarray:
            p_load, q_load, generation, _, status = grid.split(points)
            power = np.zeros((len(points), buses.count), complex)
            power[:, grid.loads] -= (p_load + 1j * q_load) / grid.base
            power[:, grid.regulated[1:]] += generation / grid.base
            voltages = flow.voltages(flow.linear_start(flow.read(torch.from_numpy(points))))
            islanded = grid.islanded(status)
            voltages[islanded] = np.nan
            for row in np.flatnonzero(~islanded):
                voltages[row] = solve(csc_matrix(grid.admittance(status[row])), power[row], voltages[row])
            return outputs(voltages)

        return function
