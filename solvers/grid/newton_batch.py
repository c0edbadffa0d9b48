"""Newton-Raphson on many load flows side by side, each certified."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from sciml.grid.newton_batch import NewtonBatch as Batch
from sciml.grid.newton_batch import outputs
from sciml.grid.powerflow import PowerFlow
from sciml.parameters import Count, Positive

from ._on_load_flow import OnLoadFlow


class NewtonBatch(OnLoadFlow):
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

    ladder: ClassVar = {"tolerance": (1e-1, 1e-3, 1e-5, 1e-8, 1e-10)}

    def __init__(self, tolerance: Positive = 1e-8, iterations: Count = 20, threads: Count = 1) -> None:
        self.tolerance = tolerance
        self.iterations = iterations
        self.threads = threads

    def answer(self, flow: PowerFlow) -> Callable[[np.ndarray], np.ndarray]:
        """Return the function that solves scenarios; a row not converged comes back as it stands."""
        batch = Batch(flow.grid, self.tolerance, self.iterations, self.threads)
        return lambda points: outputs(batch.solve(points).voltages)
