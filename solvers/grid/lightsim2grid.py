"""lightsim2grid as a peer."""

import numpy as np
from scipy.sparse import csc_matrix

from sciml.errors import missing

from ._on_admittances import Buses, OnAdmittances, Solve


class LightSim2Grid(OnAdmittances):
    """Solves each scenario by the Newton-Raphson of lightsim2grid, with KLU, in C++.

    The fastest open solver known for one load flow; ``scripts/bench/peers_grid.py`` measures its batches, this
    solver its answers. Source: B. Donnot, lightsim2grid, https://github.com/Grid2Op/lightsim2grid.

    Args:
        tolerance: greatest mismatch at which a scenario is solved, in p.u.
        iterations: the most steps.
    """

    def solver(self, buses: Buses) -> Solve:
        try:
            from lightsim2grid.lightsim2grid_cpp import NR_KLU  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise missing("this peer", "lightsim2grid", "peers") from None
        algorithm, weights = NR_KLU(), np.zeros(buses.count)
        weights[buses.slack] = 1.0

        def solve(y: csc_matrix, power: np.ndarray, start: np.ndarray) -> np.ndarray:
            algorithm.reset()
            sets = buses.slack, weights, buses.held, buses.free
            converged = algorithm.compute_pf(y, start, power, *sets, self.iterations, self.tolerance)
            return algorithm.get_V() if converged else np.full(buses.count, np.nan, complex)

        return solve
