"""DeepXDE, the peer for partial differential equations."""

from pathlib import Path
from typing import Literal

import numpy as np

from sciml.parameters import Count, Positive

from ._peer import Activation, Peer

CHILD = Path(__file__).with_name("_deepxde_child.py")


class DeepXDE(Peer):
    """DeepXDE trains its own network on the same equations, in a process of its own.

    The loss is the sum of the mean squared residuals of equations and conditions at fixed points, with
    derivatives by ``dde.grad``, in double precision; Adam, then L-BFGS, with DeepXDE's own settings. The
    defaults are those of its example for the Burgers equation, but that points are of a scrambled Sobol
    sequence and counted for each condition. Fewer steps than its schedule has shorten both phases alike.
    Source: L. Lu, X. Meng, Z. Mao, G. E. Karniadakis, DeepXDE: A deep learning library for solving
    differential equations, SIAM Review 63 (2021), doi:10.1137/19M1274067.

    Args:
        width: units in each hidden layer.
        depth: hidden layers, with tanh.
        points: points inside, of a scrambled Sobol sequence.
        initial_points: points of each initial condition.
        boundary_points: points of each other condition that is not given by data.
        adam_steps: steps of Adam.
        learning_rate: of Adam.
        lbfgs_steps: steps of L-BFGS.
        lbfgs: the evaluations that its line search may use, ample or DeepXDE's own default, with which it stops
            where a line search uses them up.
    """

    child = CHILD
    variables = {"DDE_BACKEND": "pytorch"}  # noqa: RUF012

    def __init__(
        self,
        width: Count = 20,
        depth: Count = 3,
        points: Count = 2540,
        initial_points: Count = 160,
        boundary_points: Count = 80,
        adam_steps: Count = 15000,
        learning_rate: Positive = 1e-3,
        lbfgs_steps: Count = 15000,
        lbfgs: Literal["ample", "own"] = "ample",
    ) -> None:
        self.adam_steps = adam_steps
        self.lbfgs_steps = lbfgs_steps

    @property
    def transfer(self) -> Activation:
        return np.tanh
