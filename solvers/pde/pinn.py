"""Physics-informed neural networks."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge
from torch import nn

from sciml.networks import MLP, Activation
from sciml.neural import Phase
from sciml.parameters import Count, Positive
from sciml.pde.domains import Sampling

from ._residual_network import ResidualNetwork

Method = Literal["auto", "lm", "lbfgs"]
SMALL = 4000
"""The most parameters for which Gauss-Newton steps are cheap."""


@dataclass(frozen=True)
class Preset:
    """What suits a method where nothing else is asked for."""

    points: int
    condition_points: int
    resample_every: int
    adam_steps: int
    steps: int


PRESETS = {"lm": Preset(600, 100, 10, 0, 200), "lbfgs": Preset(2048, 256, 250, 500, 1500)}


class PINN(ResidualNetwork):
    """A network whose mean squared residuals at collocation points are minimised.

    min_θ  mean_i |r(x_i; u_θ)|² + w Σ_k mean_j |c_k(x_kj; u_θ)|²

    Small networks are trained by Levenberg-Marquardt on points that are drawn anew where residuals are large;
    others by Adam, then by L-BFGS.
    Source: M. Raissi, P. Perdikaris, G. E. Karniadakis, Physics-informed neural networks,
    J. Comput. Phys. 378 (2019), doi:10.1016/j.jcp.2018.10.045; imposed conditions after I. Lagaris et al.
    (1998), arXiv physics/9705023.

    Args:
        width: of each hidden layer.
        depth: number of hidden layers.
        activation: between the layers.
        method: lm (Levenberg-Marquardt) or lbfgs; auto takes lm up to 4000 parameters.
        points: collocation points in the interior at the start; by default what suits the method, as below.
        condition_points: points for each condition that is trained.
        condition_weight: w.
        impose: build value conditions on the faces of a box into the network instead of training them.
        sampling: how points are drawn.
        resample_every: steps after which points are drawn anew; L-BFGS then starts again, too.
        adam_steps: steps of Adam before the method's.
        learning_rate: of Adam at the start; it falls along a cosine to a hundredth of that.
        steps: of the method.
    """

    def __init__(
        self,
        width: Count = 18,
        depth: Count = 4,
        activation: Activation = "tanh",
        method: Method = "auto",
        points: Count | None = None,
        condition_points: Count | None = None,
        condition_weight: Positive = 10.0,
        impose: bool = True,
        sampling: Sampling = "sobol",
        resample_every: Count | None = None,
        adam_steps: Annotated[int, Ge(0)] | None = None,
        learning_rate: Positive = 5e-3,
        steps: Annotated[int, Ge(0)] | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.depth = depth
        self.activation: Activation = activation
        self.method = ("lm" if depth * width**2 <= SMALL else "lbfgs") if method == "auto" else method
        suits = PRESETS[self.method]
        self.points = points or suits.points
        self.condition_points = condition_points or suits.condition_points
        self.condition_weight = condition_weight
        self.impose = impose
        self.sampling = sampling
        self.resample_every = resample_every or suits.resample_every
        self.adam_steps = suits.adam_steps if adam_steps is None else adam_steps
        self.learning_rate = learning_rate
        self.steps = suits.steps if steps is None else steps

    def architecture(self, features: int, outputs: int) -> nn.Module:
        return MLP(features, outputs, self.width, self.depth, self.activation, self.real)

    def schedule(self) -> tuple[Phase, ...]:
        adam = [Phase("adam", self.adam_steps, self.learning_rate, decay=0.01)] if self.adam_steps else []
        if self.method == "lm":
            return (*adam, *([Phase("lm", self.steps)] if self.steps else []))
        whole, rest = divmod(self.steps, self.resample_every)
        lengths = [self.resample_every] * whole + [rest] * bool(rest)
        return (*adam, *(Phase("lbfgs", steps) for steps in lengths))
