"""Scenarios with the load flow that answers are held against."""

from dataclasses import dataclass

import numpy as np
import torch

from sciml.grid.balance import newton
from sciml.grid.newton_batch import outputs
from sciml.grid.operation import Operation
from sciml.grid.powerflow import PowerFlow
from sciml.grid.powergrid import PowerGrid
from sciml.grid.scenarios import Scenarios


@dataclass(frozen=True)
class Solved:
    """Scenarios and their load flow.

    Args:
        inputs: shape (n, inputs).
        outages: number of branches out, shape (n,).
        outputs: of Newton-Raphson, shape (n, outputs).
        unsolved: by number of outages, the scenarios set aside because Newton-Raphson did not converge.
    """

    inputs: np.ndarray
    outages: np.ndarray
    outputs: np.ndarray
    unsolved: dict[int, int]


def solved(flow: PowerFlow, drawn: Scenarios, tolerance: float, operation: Operation | None) -> Solved:
    """Return the scenarios that have a load flow.

    Args:
        flow: the balance.
        drawn: the scenarios.
        tolerance: greatest mismatch, in p.u.
        operation: what else is kept, if anything.
    """
    if operation is None:
        found = newton(flow, torch.from_numpy(drawn.inputs), tolerance, linear=True)
        answer, done = flow.outputs(found.state).numpy(), found.converged.numpy()
    else:
        operated = operation.run(flow.grid, drawn.inputs)
        answer, done = outputs(operated.voltages), operated.settled
    unsolved = {int(k): int((~done[drawn.outages == k]).sum()) for k in np.unique(drawn.outages)}
    return Solved(drawn.inputs[done], drawn.outages[done], answer[done], unsolved)


def rounding(grid: PowerGrid) -> float:
    """Return a mismatch in p.u. that rounding allows: ten times eps max_i Σ_j |Y_ij|, and 1e-12 at least."""
    sums = abs(grid.admittance(grid.in_service.astype(float))).sum(axis=1)
    return max(1e-12, 10 * np.finfo(float).eps * float(sums.max()))
