"""Physics-informed neural networks."""

from typing import Annotated

from annotated_types import Ge
from torch import nn

from sciml.networks import MLP, Activation
from sciml.neural import Phase
from sciml.parameters import Count, Positive
from sciml.pde.domains import Sampling

from ._residual_network import ResidualNetwork


class PINN(ResidualNetwork):
    """A network whose mean squared residuals at collocation points are minimised by Adam, then by L-BFGS.

    min_θ  mean_i |r(x_i; u_θ)|² + w Σ_k mean_j |c_k(x_kj; u_θ)|²

    Source: M. Raissi, P. Perdikaris, G. E. Karniadakis, Physics-informed neural networks,
    J. Comput. Phys. 378 (2019), doi:10.1016/j.jcp.2018.10.045; imposed conditions after I. Lagaris et al.
    (1998), arXiv physics/9705023.

    Args:
        width: of each hidden layer.
        depth: number of hidden layers.
        activation: between the layers.
        points: collocation points in the interior.
        condition_points: points for each condition that is trained.
        condition_weight: w.
        impose: build value conditions on the faces of a box into the network instead of training them.
        sampling: how points are drawn.
        resample_every: steps after which points are drawn anew; L-BFGS then starts again, too.
        adam_steps: steps of Adam.
        learning_rate: of Adam at the start; it falls along a cosine to a hundredth of that.
        lbfgs_steps: steps of L-BFGS.
    """

    def __init__(
        self,
        width: Count = 32,
        depth: Count = 3,
        activation: Activation = "tanh",
        points: Count = 2048,
        condition_points: Count = 256,
        condition_weight: Positive = 10.0,
        impose: bool = True,
        sampling: Sampling = "sobol",
        resample_every: Count = 250,
        adam_steps: Annotated[int, Ge(0)] = 500,
        learning_rate: Positive = 5e-3,
        lbfgs_steps: Annotated[int, Ge(0)] = 1500,
    ) -> None:
        super().__init__()
        self.width = width
        self.depth = depth
        self.activation: Activation = activation
        self.points = points
        self.condition_points = condition_points
        self.condition_weight = condition_weight
        self.impose = impose
        self.sampling = sampling
        self.resample_every = resample_every
        self.adam_steps = adam_steps
        self.learning_rate = learning_rate
        self.lbfgs_steps = lbfgs_steps

    def architecture(self, features: int, outputs: int) -> nn.Module:
        return MLP(features, outputs, self.width, self.depth, self.activation, self.real)

    def schedule(self) -> tuple[Phase, ...]:
        adam = [Phase("adam", self.adam_steps, self.learning_rate, decay=0.01)] if self.adam_steps else []
        whole, rest = divmod(self.lbfgs_steps, self.resample_every)
        lengths = [self.resample_every] * whole + [rest] * bool(rest)
        return (*adam, *(Phase("lbfgs", steps) for steps in lengths))
