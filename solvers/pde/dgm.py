"""The deep Galerkin method."""

from typing import Annotated

from annotated_types import Ge
from torch import nn

from sciml.networks import GatedNetwork
from sciml.neural import Phase
from sciml.parameters import Count, Positive
from sciml.pde.domains import Sampling
from sciml.views.residual import Residual

from ._phases import cooled
from ._residual_network import ResidualNetwork
from ._weighting import Balance


class DGM(ResidualNetwork):
    """A gated network whose squared residuals, at points drawn anew for every step, are descended by Adam.

    min_θ  E_x |r(x; u_θ)|² + w Σ_k E_x |c_k(x; u_θ)|²

    Source: J. Sirignano, K. Spiliopoulos, DGM: a deep learning algorithm for solving partial differential
    equations, J. Comput. Phys. 375 (2018), arXiv 1708.07469.

    Args:
        width: of each gated layer.
        depth: number of gated layers.
        points: points in the interior at each step.
        condition_points: points for each condition at each step.
        condition_weight: w.
        impose: build value conditions on the faces of a box into the network instead of training them.
        sampling: how points are drawn.
        adam_steps: steps of Adam.
        learning_rate: at the start; it falls along a cosine to a hundredth of that.
        balance: weights between the terms that follow the training: by the norms of gradients, by the neural tangent
            kernel, or by relative progress.
        causality: ε, above 0 lets later times wait for earlier ones, by weights ``exp(-ε Σ_(earlier) loss)``.
        windows: networks for so many stretches of time, trained one after the other.
    """

    def __init__(
        self,
        width: Count = 32,
        depth: Count = 3,
        points: Count = 512,
        condition_points: Count = 128,
        condition_weight: Positive = 10.0,
        impose: bool = False,
        sampling: Sampling = "uniform",
        adam_steps: Count = 3000,
        learning_rate: Positive = 5e-3,
        balance: Balance = "none",
        causality: Annotated[float, Ge(0)] = 0.0,
        windows: Count = 1,
    ) -> None:
        super().__init__()
        self.width = width
        self.depth = depth
        self.points = points
        self.condition_points = condition_points
        self.condition_weight = condition_weight
        self.impose = impose
        self.sampling = sampling
        self.adam_steps = adam_steps
        self.learning_rate = learning_rate
        self.balance: Balance = balance
        self.causality = causality
        self.windows = windows

    def architecture(self, problem: Residual, features: int, outputs: int) -> nn.Module:
        return GatedNetwork(features, outputs, self.width, self.depth, self.real)

    def schedule(self) -> tuple[Phase, ...]:
        return self.staged(cooled("adam", self.adam_steps, self.learning_rate))
