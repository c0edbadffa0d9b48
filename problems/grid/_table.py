"""A load flow's solution and its reference as named arrays."""

import numpy as np

from sciml.grid.newton_batch import voltages
from sciml.grid.powergrid import PowerGrid
from sciml.problem import Table, Variable

_VARIABLES = (
    Variable("lines_out", long_name="branches out"),
    Variable("vm", long_name="voltage magnitude in p.u."),
    Variable("vm_reference", long_name="voltage magnitude in p.u. by Newton-Raphson"),
    Variable("va", "degree", "voltage angle"),
    Variable("va_reference", "degree", "voltage angle by Newton-Raphson"),
    Variable("flow", "MW", "active power into the branch at from_bus"),
    Variable("flow_reference", "MW", "active power into the branch at from_bus by Newton-Raphson"),
    Variable("status", long_name="1 while the branch is in service"),
    Variable("from_bus", long_name="bus at the branch's first end"),
    Variable("to_bus", long_name="bus at the branch's other end"),
    Variable("islanded", long_name="scenarios drawn and set aside because a bus was cut off"),
    Variable("unsolved", long_name="scenarios set aside because Newton-Raphson did not converge"),
    Variable("branch", long_name="branch"),
    Variable("bus", long_name="bus"),
    Variable("scenario", long_name="scenario"),
    Variable("outages", long_name="branches out"),
)


def load_flow_table(
    grid: PowerGrid,
    status: np.ndarray,
    outputs: np.ndarray,
    truth: np.ndarray,
    outages: np.ndarray,
    aside: dict[int, tuple[int, int]],
) -> Table:
    """Return the table of n load flows.

    Args:
        grid: the arrays.
        status: of the branches, shape (n, branches).
        outputs: magnitudes in p.u. and angles in degrees, shape (n, outputs).
        truth: of the reference, like ``outputs``.
        outages: branches out, shape (n,).
        aside: by number of branches out, the scenarios set aside as islanded and as unsolved.
    """
    scenario, bus, branch = ("scenario",), ("scenario", "bus"), ("scenario", "branch")
    arrays = {"lines_out": (scenario, outages)}
    for suffix, each in (("", outputs), ("_reference", truth)):
        vm, va = np.split(each, 2, axis=1)
        flow = np.real(grid.flows(voltages(each), status)[:, 0])
        arrays |= {f"vm{suffix}": (bus, vm), f"va{suffix}": (bus, va), f"flow{suffix}": (branch, flow)}
    islanded, unsolved = np.array([*aside.values()]).T
    arrays |= {
        "status": (branch, status),
        "from_bus": (("branch",), grid.numbers[grid.source]),
        "to_bus": (("branch",), grid.numbers[grid.target]),
        "islanded": (("outages",), islanded),
        "unsolved": (("outages",), unsolved),
    }
    axes = {
        "scenario": np.arange(len(status)),
        "bus": grid.numbers,
        "branch": np.arange(1, len(grid.source) + 1),
        "outages": np.array([*aside]),
    }
    return Table(axes, arrays, {v.name: v for v in _VARIABLES})
