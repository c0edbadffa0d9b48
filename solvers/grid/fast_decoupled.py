"""The fast decoupled load flow."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from sciml.grid.fast_decoupled import fast_decoupled
from sciml.grid.newton_batch import outputs
from sciml.grid.powerflow import PowerFlow
from sciml.parameters import Count, Positive

from ._on_load_flow import OnLoadFlow


class FastDecoupled(OnLoadFlow):
    """Solves for angles and for magnitudes in turn, each with a matrix that is factorised once for a scenario.

    B' Δθ = ΔP / |V|,  then  B'' Δ|V| = ΔQ / |V|

    Convergence is linear, the faster the smaller resistances are beside reactances. Source: B. Stott and O. Alsaç,
    Fast decoupled load flow, 1974, doi:10.1109/TPAS.1974.293985.

    Args:
        tolerance: greatest mismatch at which a scenario is solved, in p.u.
        iterations: the most, of two half steps each.
    """

    ladder: ClassVar = {"iterations": (1, 2, 4, 8, 16)}

    def __init__(self, tolerance: Positive = 1e-8, iterations: Count = 100) -> None:
        self.tolerance = tolerance
        self.iterations = iterations

    def answer(self, flow: PowerFlow) -> Callable[[np.ndarray], np.ndarray]:
        """Return the function that solves scenarios; a row not converged comes back as it stands."""
        return lambda points: outputs(fast_decoupled(flow.grid, points, self.tolerance, self.iterations))
