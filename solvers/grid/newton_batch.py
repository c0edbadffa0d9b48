"""Newton-Raphson on many load flows side by side, each certified."""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from sciml.grid.newton_batch import NewtonBatch as Batch
from sciml.grid.newton_batch import outputs
from sciml.grid.powerflow import PowerFlow
from sciml.parameters import Count, Positive
from sciml.solution import Solution
from sciml.solver import Context, Solver
from sciml.views.graph import Graph


class NewtonBatch(Solver[Graph]):
    """Solves one load flow in each lane of the processor's vectors, from the voltages of the nominal state.

    J(x_k) (x_{k+1} - x_k) = -F(x_k)

    Scenarios share one sparse LU without pivoting, whose pattern is worked out once for the grid. What does not
    converge starts again from the DC load flow, and with pivoting where a pivot has grown. Source: W. F. Tinney
    and C. E. Hart, Power flow solution by Newton's method, 1967, doi:10.1109/TPAS.1967.291823.

    Args:
        tolerance: greatest mismatch at which a scenario is solved, in p.u.
        iterations: the most steps.
        threads: over which scenarios are spread.
    """

    kind = "classical"
    needs = Graph
    deterministic = True
    ladder: ClassVar = {"tolerance": (1e-1, 1e-3, 1e-5, 1e-8, 1e-10)}

    def __init__(self, tolerance: Positive = 1e-8, iterations: Annotated[int, Ge(1)] = 20, threads: Count = 1) -> None:
        self.tolerance = tolerance
        self.iterations = iterations
        self.threads = threads

    def refuses(self, problem: Graph) -> str | None:
        balance = problem.balance()
        return None if isinstance(balance, PowerFlow) else f"its balance is {type(balance).__name__}, not a load flow"

    def solve(self, problem: Graph, context: Context) -> Solution:
        """Return a solution that solves each scenario when it is asked for it.

        Rows in which a bus is cut off come back as NaN; a row not converged comes back as it stands.
        """
        return self.restore(problem, {})

    def restore(self, problem: Graph, state: Mapping[str, np.ndarray]) -> Solution:
        balance = problem.balance()
        assert isinstance(balance, PowerFlow)
        batch = Batch(balance.grid, self.tolerance, self.iterations, self.threads)
        return Solution(problem, lambda points: outputs(batch.solve(points).voltages))
