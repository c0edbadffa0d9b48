"""DC load flow: the linearised balance of active power."""

from collections.abc import Callable
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge

from sciml.grid.dc import dc_angles
from sciml.grid.powerflow import PowerFlow

from ._on_load_flow import OnLoadFlow


class DC(OnLoadFlow):
    """Linear in the angles, with all magnitudes at one p.u. and no reactive power.

    Σ_j b_ij (θ_i - θ_j - φ_ij) = P_i,  b = x / ((r² + x²) tap),  the derivative of the flow at the flat
    profile

    Losses are left out, or estimated as r f² from the flows f of the previous pass and drawn half at each
    end. Source: B. Stott, J. Jardim and O. Alsaç, DC power flow revisited, 2009,
    doi:10.1109/TPWRS.2009.2021235.

    Args:
        loss_passes: how often losses are estimated.
    """

    ladder: ClassVar = {"loss_passes": (0, 1, 2, 3)}

    def __init__(self, loss_passes: Annotated[int, Ge(0)] = 0) -> None:
        self.loss_passes = loss_passes

    def answer(self, flow: PowerFlow) -> Callable[[np.ndarray], np.ndarray]:
        buses = len(flow.grid.numbers)

        def function(points: np.ndarray) -> np.ndarray:
            given = flow.read(torch.from_numpy(points))
            status = given["status"].numpy()[:, : len(flow.grid.source)]
            angles = np.full((len(points), buses), np.nan)
            whole = flow.solvable(given).numpy()
            injection = (given["p"] - flow.shunt_g).numpy()
            angles[whole] = dc_angles(flow.grid, injection[whole], status[whole], self.loss_passes)
            state = np.stack([angles, np.where(np.isnan(angles), np.nan, 1.0)], axis=-1)
            return flow.outputs(torch.from_numpy(state)).numpy()

        return function
