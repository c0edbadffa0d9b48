"""power-grid-model as a peer."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from sciml.errors import missing
from sciml.grid.newton_batch import outputs
from sciml.grid.powerflow import PowerFlow
from sciml.grid.powergrid import PowerGrid
from sciml.parameters import Count, Positive
from sciml.views.graph import Graph

from ._on_load_flow import OnLoadFlow

_VOLTS = 1e4
"""Rated voltage of every node: all is per unit, and one for all leaves no ratio to account for."""
_STIFF = 1e20
"""Short-circuit power of the slack, in VA, next to which its own impedance is none."""


class PowerGridModel(OnLoadFlow):
    """Solves scenarios as a batch of power-grid-model, by Newton-Raphson in C++.

    It knows no bus of given active power and voltage, so that it takes grids alone whose only regulated bus is the
    slack, as those of distribution are. Source: Alliander, power-grid-model,
    https://github.com/PowerGridModel/power-grid-model.

    Args:
        tolerance: greatest change of a voltage in the last step, in p.u.
        iterations: the most steps.
    """

    kind = "peer"

    def __init__(self, tolerance: Positive = 1e-8, iterations: Count = 20) -> None:
        self.tolerance = tolerance
        self.iterations = iterations

    def refuses(self, problem: Graph) -> str | None:
        balance = problem.balance()
        if isinstance(balance, PowerFlow) and len(balance.grid.regulated) > 1:
            return f"it holds no voltage but the slack's; the grid has {len(balance.grid.regulated)} regulated buses"
        return super().refuses(problem)

    def answer(self, flow: PowerFlow) -> Callable[[np.ndarray], np.ndarray]:
        grid = flow.grid
        model, branches, loads, source = _model(grid)

        def function(points: np.ndarray) -> np.ndarray:
            p_load, q_load, _, setpoint, status = grid.split(points)
            whole = np.flatnonzero(~grid.islanded(status))
            update = {
                "generic_branch": _table("update", "generic_branch", (len(whole), len(branches)), id=branches),
                "sym_load": _table("update", "sym_load", (len(whole), len(loads)), id=loads),
                "source": _table("update", "source", (len(whole), 1), id=source),
            }
            for end in ("from_status", "to_status"):
                update["generic_branch"][end] = status[whole]
            update["sym_load"]["p_specified"], update["sym_load"]["q_specified"] = (
                1e6 * p_load[whole],
                1e6 * q_load[whole],
            )
            update["source"]["u_ref"] = setpoint[whole]
            found = model.calculate_power_flow(
                update_data=update,
                error_tolerance=self.tolerance,
                max_iterations=self.iterations,
                continue_on_batch_error=True,
            )["node"]
            voltages = np.full((len(points), len(grid.numbers)), np.nan, complex)
            voltages[whole] = found["u_pu"] * np.exp(1j * found["u_angle"])
            if model.batch_error is not None:
                voltages[whole[model.batch_error.failed_scenarios]] = np.nan
            return outputs(voltages)

        return function


def _model(grid: PowerGrid) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """Return the peer's model of a grid, and its names of branches, loads and the source."""
    ohms = _VOLTS**2 / (1e6 * grid.base)
    buses = np.arange(len(grid.numbers))
    branches = len(buses) + np.arange(len(grid.source))
    loads = branches[-1] + 1 + np.arange(len(grid.loads))
    shunts = branches[-1] + 1 + len(loads) + buses
    source = shunts[-1:] + 1
    branch = {
        "from_node": grid.source,
        "to_node": grid.target,
        "from_status": grid.in_service,
        "to_status": grid.in_service,
        "r1": ohms * np.real(grid.impedance),
        "x1": ohms * np.imag(grid.impedance),
        "g1": grid.conductance / ohms,
        "b1": grid.charging / ohms,
        "k": np.abs(grid.tap),
        "theta": np.angle(grid.tap),
        "sn": 1e6 * grid.base,
    }
    load = {"node": grid.loads, "p_specified": 1e6 * np.real(grid.load), "q_specified": 1e6 * np.imag(grid.load)}
    shunt = {"node": buses, "g1": np.real(grid.shunt) / ohms, "b1": np.imag(grid.shunt) / ohms}
    held = {"node": grid.slack, "u_ref": grid.setpoint[0], "sk": _STIFF}
    parts = {
        "node": _table("input", "node", buses.shape, id=buses, u_rated=_VOLTS),
        "generic_branch": _table("input", "generic_branch", branches.shape, id=branches, **branch),
        "sym_load": _table("input", "sym_load", loads.shape, id=loads, status=1, type=0, **load),
        "shunt": _table("input", "shunt", buses.shape, id=shunts, status=1, **shunt),
        "source": _table("input", "source", (1,), id=source, status=1, **held),
    }
    return _library().PowerGridModel(parts), branches, loads, source


def _table(kind: str, component: str, shape: tuple[int, ...], **columns: Any) -> np.ndarray:
    """Return the peer's array of a component with columns filled."""
    made = _library().initialize_array(kind, component, shape)
    for name, values in columns.items():
        made[name] = values
    return made


def _library() -> Any:
    """Return the peer's package, by name because a type checker would take this file for it where it is absent."""
    try:
        return import_module("power_grid_model")
    except ImportError:
        raise missing("this peer", "power-grid-model", "peers") from None
