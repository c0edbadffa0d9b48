"""Newton-Raphson on the equations of balance."""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge

from sciml.grid.balance import Balance, newton
from sciml.parameters import Positive
from sciml.solution import Solution
from sciml.solver import Context, Solver
from sciml.views.graph import Graph


class Newton(Solver[Graph]):
    """Solves each instance by sparse Newton-Raphson with the exact Jacobian.

    J(x_k) (x_{k+1} - x_k) = -F(x_k)

    Instances go through the sparse LU many at once, as one block-diagonal matrix; each stops at its own
    convergence. Source: W. F. Tinney and C. E. Hart, Power flow solution by Newton's method, 1967,
    doi:10.1109/TPAS.1967.291823.

    Args:
        tolerance: greatest imbalance at which an instance is solved (in p.u. for a load flow).
        iterations: the most steps.
        start: flat (all angles zero, all magnitudes as given or one), or linear (the angles of the linearised
            balance, the DC load flow of a power grid), from which large grids converge that do not from flat.
    """

    kind = "classical"
    needs = Graph
    deterministic = True
    ladder: ClassVar = {"iterations": (1, 2, 3, 4, 5, 6)}

    def __init__(
        self,
        tolerance: Positive = 1e-10,
        iterations: Annotated[int, Ge(0)] = 20,
        start: Literal["flat", "linear"] = "linear",
    ) -> None:
        self.tolerance = tolerance
        self.iterations = iterations
        self.start = start

    def solve(self, problem: Graph, context: Context) -> Solution:
        """Return a solution that solves each scenario when it is asked for it.

        Rows that are not solvable (a bus is cut off) come back as NaN; a row not converged comes back as it
        stands.
        """
        return self.restore(problem, {})

    def restore(self, problem: Graph, state: Mapping[str, np.ndarray]) -> Solution:
        return Solution(problem, problem.answered(self._answer))

    def _answer(self, balance: Balance) -> Callable[[np.ndarray], np.ndarray]:
        def function(points: np.ndarray) -> np.ndarray:
            found = newton(balance, torch.from_numpy(points), self.tolerance, self.iterations, self.start == "linear")
            return balance.outputs(found.state).numpy()

        return function
