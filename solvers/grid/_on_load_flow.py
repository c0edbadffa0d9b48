"""Solvers that know a power grid, not any graph."""

from abc import abstractmethod
from collections.abc import Callable, Mapping

import numpy as np

from sciml.grid.balance import Balance
from sciml.grid.powerflow import PowerFlow
from sciml.solution import Solution
from sciml.solver import Context, Solver
from sciml.views.graph import Graph


class OnLoadFlow(Solver[Graph]):
    """Solves each scenario of a load flow when it is asked for it."""

    kind = "classical"
    needs = Graph
    deterministic = True

    @abstractmethod
    def answer(self, flow: PowerFlow) -> Callable[[np.ndarray], np.ndarray]:
        """Return the function from scenarios (n, inputs) to outputs (n, outputs); NaN where a bus is cut off."""

    def refuses(self, problem: Graph) -> str | None:
        return no_load_flow(problem)

    def solve(self, problem: Graph, context: Context) -> Solution:
        return self.restore(problem, {})

    def restore(self, problem: Graph, state: Mapping[str, np.ndarray]) -> Solution:
        def way(balance: Balance) -> Callable[[np.ndarray], np.ndarray]:
            assert isinstance(balance, PowerFlow)
            return self.answer(balance)

        return Solution(problem, problem.answered(way))


def no_load_flow(problem: Graph) -> str | None:
    """Return what the balance of a problem is instead of a load flow, or None where it is one."""
    balance = problem.balance()
    return None if isinstance(balance, PowerFlow) else f"its balance is {type(balance).__name__}, not a load flow"


def load_flow(problem: Graph) -> PowerFlow:
    """Return the balance of a problem that ``no_load_flow`` has nothing against, in float64."""
    flow = problem.balance()
    assert isinstance(flow, PowerFlow)
    return flow
