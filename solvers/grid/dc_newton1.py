"""The DC load flow and one step of Newton's method from it."""

from collections.abc import Callable

import numpy as np

from sciml.grid.newton_batch import NewtonBatch, outputs
from sciml.grid.powerflow import PowerFlow

from ._on_load_flow import OnLoadFlow


class DCNewton1(OnLoadFlow):
    """Takes one Newton step on the AC equations, from the angles of the DC load flow and magnitudes of one.

    x = x_DC - J(x_DC)⁻¹ F(x_DC)

    The error is quadratic in that of the DC load flow. Source: W. F. Tinney and C. E. Hart, Power flow solution by
    Newton's method, 1967, doi:10.1109/TPAS.1967.291823.
    """

    def answer(self, flow: PowerFlow) -> Callable[[np.ndarray], np.ndarray]:
        batch = NewtonBatch(flow.grid)
        return lambda points: outputs(batch.one_step(points))
