"""The deep Galerkin method."""

from torch import nn

from sciml.networks import GatedNetwork
from sciml.neural import Phase
from sciml.parameters import Count, Positive
from sciml.pde.domains import Sampling

from ._residual_network import ResidualNetwork


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

    def architecture(self, features: int, outputs: int) -> nn.Module:
        return GatedNetwork(features, outputs, self.width, self.depth, self.real)

    def schedule(self) -> tuple[Phase, ...]:
        return (Phase("adam", self.adam_steps, self.learning_rate, decay=0.01),)
