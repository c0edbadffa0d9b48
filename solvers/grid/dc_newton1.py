"""The DC load flow and one step of Newton's method from it."""

from collections.abc import Mapping

import numpy as np

from sciml.grid.newton_batch import NewtonBatch, outputs
from sciml.grid.powerflow import PowerFlow
from sciml.solution import Solution
from sciml.solver import Context, Solver
from sciml.views.graph import Graph


class DCNewton1(Solver[Graph]):
    """Takes one Newton step on the AC equations, from the angles of the DC load flow and magnitudes of one.

    x = x_DC - J(x_DC)⁻¹ F(x_DC)

    The error is quadratic in that of the DC load flow. Source: W. F. Tinney and C. E. Hart, Power flow solution by
    Newton's method, 1967, doi:10.1109/TPAS.1967.291823.
    """

    kind = "classical"
    needs = Graph
    deterministic = True

    def refuses(self, problem: Graph) -> str | None:
        balance = problem.balance()
        return None if isinstance(balance, PowerFlow) else f"its balance is {type(balance).__name__}, not a load flow"

    def solve(self, problem: Graph, context: Context) -> Solution:
        return self.restore(problem, {})

    def restore(self, problem: Graph, state: Mapping[str, np.ndarray]) -> Solution:
        flow = problem.balance()
        assert isinstance(flow, PowerFlow)
        batch = NewtonBatch(flow.grid)
        return Solution(problem, lambda points: outputs(batch.one_step(points)))
