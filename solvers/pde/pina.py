"""PINA, a peer for partial differential equations."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, MinLen

from sciml.errors import UserError
from sciml.parameters import Count, Positive
from sciml.solution import Solution
from sciml.solver import Context
from sciml.views.residual import Residual

from ._peer import Activation, Peer

CHILD = Path(__file__).with_name("_pina_child.py")


class PINA(Peer):
    """PINA trains its own network on the same equations, in a process of its own.

    The loss is the sum of the mean squared residuals of equations and conditions at fixed points, with
    derivatives by its operator ``fast_grad``, all points in one batch; Adam, then L-BFGS by its switch of
    optimisers, in double precision on a CPU. It needs the extra ``peers``.
    Source: D. Coscia, A. Ivagnes, N. Demo, G. Rozza, Physics-Informed Neural networks for Advanced modeling,
    Journal of Open Source Software 8 (2023), doi:10.21105/joss.05352.

    Args:
        layers: units of each hidden layer.
        activation: between the layers.
        points: points inside, of a scrambled Sobol sequence.
        initial_points: points of each initial condition.
        boundary_points: points of each other condition that is not given by data.
        adam_steps: steps of Adam.
        learning_rate: of Adam.
        lbfgs_steps: steps of L-BFGS.
    """

    child = CHILD

    def __init__(
        self,
        layers: Annotated[tuple[Count, ...], MinLen(1)] = (20, 20, 20),
        activation: Literal["tanh", "softplus"] = "tanh",
        points: Count = 2540,
        initial_points: Count = 160,
        boundary_points: Count = 80,
        adam_steps: Count = 5000,
        learning_rate: Positive = 1e-3,
        lbfgs_steps: Annotated[int, Ge(0)] = 5000,
    ) -> None:
        self.activation = activation
        self.adam_steps = adam_steps
        self.lbfgs_steps = lbfgs_steps

    @property
    def transfer(self) -> Activation:
        return np.tanh if self.activation == "tanh" else lambda x: np.logaddexp(0, x)

    def refuses(self, problem: Residual) -> str | None:
        if find_spec("pina") is None:
            return "the package pina-mathlab is not installed; install sciml-solvers with the extra peers"
        return super().refuses(problem)

    def solve(self, problem: Residual, context: Context) -> Solution:
        if context.training.accelerator == "gpu":
            raise UserError("pina is set up for a CPU, where its points are; take accelerator=cpu or auto")
        return super().solve(problem, context)
