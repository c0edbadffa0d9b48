"""Physics-informed neural networks."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge
from torch import nn

from sciml.networks import MLP, Activation, FourierFeatures, GatedNetwork, PirateNet
from sciml.neural import Phase
from sciml.parameters import Count, Positive
from sciml.pde.domains import Sampling
from sciml.pde.oscillation import extrema, frequency, is_oscillatory
from sciml.views.residual import Residual

from ._phases import cooled, rounds
from ._residual_network import ResidualNetwork
from ._weighting import Balance

Optimizing = Literal["lm", "engd", "ssbroyden", "ssbfgs", "lbfgs", "soap", "adam"]
Method = Literal["auto"] | Optimizing
Network = Literal["mlp", "fourier", "piratenet", "dgm"]
MATRICES = {"mlp": (-1, 1), "fourier": (0, 1), "piratenet": (2, 3), "dgm": (0, 4)}
"""Square matrices of weights in each network: in all, and for each of its layers."""
SHAPES: dict[Activation, tuple[int, int]] = {"tanh": (18, 4), "silu": (18, 4), "sin": (24, 2)}
"""Width and depth where nothing else is asked for."""
SMALL = 4000
"""The most weights in square matrices with which Gauss-Newton steps are cheap."""


@dataclass(frozen=True)
class Preset:
    """What suits a method where nothing else is asked for."""

    points: int
    condition_points: int
    condition_weight: float
    resample_every: int
    adam_steps: int
    steps: int


PRESETS = {
    "lm": Preset(600, 100, 100.0, 10, 0, 200),
    "engd": Preset(600, 100, 100.0, 1, 0, 300),
    **dict.fromkeys(("ssbroyden", "ssbfgs"), Preset(1024, 128, 10.0, 250, 500, 3000)),
    "lbfgs": Preset(2048, 256, 10.0, 250, 500, 1500),
    **dict.fromkeys(("soap", "adam"), Preset(1024, 128, 10.0, 1, 0, 3000)),
}


class PINN(ResidualNetwork):
    """A network whose mean squared residuals at collocation points are minimised.

    min_θ  mean_i |r(x_i; u_θ)|² + w Σ_k mean_j |c_k(x_kj; u_θ)|²

    Small networks are trained by Levenberg-Marquardt on points that are drawn anew where residuals are large;
    others by Adam, then by L-BFGS. With the method lm a number that is sought has an interval from the linearised
    fit, for a ``confidence`` of 0.95; it tells what noise does, not the bias of the network.
    Source: M. Raissi, P. Perdikaris, G. E. Karniadakis, Physics-informed neural networks,
    J. Comput. Phys. 378 (2019), doi:10.1016/j.jcp.2018.10.045; imposed conditions after I. Lagaris et al.
    (1998), arXiv physics/9705023.

    Args:
        width: of each hidden layer; by default 24 where layers are sines, else 18.
        depth: number of hidden layers, for piratenet of blocks, for dgm of gated layers; by default 2 where layers are
            sines, which serve smooth waves, else 4.
        network: mlp (fully connected), fourier (the same on random Fourier features), piratenet (residual blocks that
            start as nothing) or dgm (gated layers).
        activation: between the layers, but for dgm; auto takes sines where sources or data of conditions have more than
            three extrema along an axis, else tanh.
        frequency: of the first layer of sines the greatest angular frequency, of fourier and piratenet the standard
            deviation, where an axis has length 2; by default as the data oscillate.
        factored: factor the weights of piratenet at random, for first-order methods.
        harmonics: multiples of the angle that the embedding of a periodic axis has.
        method: lm (Levenberg-Marquardt), engd (natural gradient with momentum, on new points for every step), ssbroyden
            or ssbfgs (self-scaled quasi-Newton with full memory), lbfgs, soap or adam; auto takes lm where the
            square matrices of weights between layers have at most 4000 entries and none is factored (the width and
            depth that are not given counted as those of tanh where the activation is auto), else lbfgs.
        points: collocation points in the interior at the start; where they, condition_points, condition_weight,
            resample_every, adam_steps or steps are not given, they are those of the method in ``PRESETS``.
        condition_points: points for each condition that is trained.
        condition_weight: w.
        impose: build value conditions on the faces of a box into the network instead of training them.
        sampling: how points are drawn.
        resample_every: steps after which points are drawn anew; L-BFGS then starts again, too.
        adam_steps: steps of Adam before the method's.
        learning_rate: of Adam or SOAP at the start; it falls along a cosine to a hundredth of that.
        steps: of the method.
        balance: weights between the terms that follow the training by Adam or SOAP: by the norms of gradients, by the
            neural tangent kernel, or by relative progress.
        causality: ε, above 0 lets later times wait for earlier ones, by weights ``exp(-ε Σ_(earlier) loss)``.
        windows: networks for so many stretches of time, trained one after the other.
    """

    def __init__(
        self,
        width: Count | None = None,
        depth: Count | None = None,
        network: Network = "mlp",
        activation: Activation | Literal["auto"] = "auto",
        frequency: Positive | None = None,
        factored: bool = False,
        harmonics: Count = 1,
        method: Method = "auto",
        points: Count | None = None,
        condition_points: Count | None = None,
        condition_weight: Positive | None = None,
        impose: bool = True,
        sampling: Sampling = "sobol",
        resample_every: Count | None = None,
        adam_steps: Annotated[int, Ge(0)] | None = None,
        learning_rate: Positive = 5e-3,
        steps: Annotated[int, Ge(0)] | None = None,
        balance: Balance = "none",
        causality: Annotated[float, Ge(0)] = 0.0,
        windows: Count = 1,
    ) -> None:
        super().__init__()
        self.width = width
        self.depth = depth
        self.design: Network = network
        self.activation: Activation | Literal["auto"] = activation
        self.frequency = frequency
        self.factored = factored
        self.harmonics = harmonics
        once, each = MATRICES[network]
        wide, deep = self._shape("tanh" if activation == "auto" else activation)
        small: Optimizing = "lm" if (once + each * deep) * wide**2 <= SMALL and not factored else "lbfgs"
        self.method: Optimizing = small if method == "auto" else method
        suits = PRESETS[self.method]
        self.points = points or suits.points
        self.condition_points = condition_points or suits.condition_points
        self.condition_weight = condition_weight or suits.condition_weight
        self.impose = impose
        self.sampling = sampling
        self.resample_every = resample_every or suits.resample_every
        self.adam_steps = suits.adam_steps if adam_steps is None else adam_steps
        self.learning_rate = learning_rate
        self.steps = suits.steps if steps is None else steps
        self.balance: Balance = balance
        self.causality = causality
        self.windows = windows

    def build(self, problem: Residual) -> None:
        self.layers = self._layers(problem)
        super().build(problem)

    def _shape(self, activation: Activation) -> tuple[int, int]:
        """Return the width and depth asked for, else those that suit the layers."""
        wide, deep = SHAPES["tanh" if self.design == "dgm" else activation]
        return self.width or wide, self.depth or deep

    def _layers(self, problem: Residual) -> tuple[Activation, float]:
        """Return the activation and the first layer's frequency, as the data oscillate where they are not given."""
        auto, given = self.activation == "auto" and self.design != "dgm", self.frequency is not None
        waves = self.activation == "sin" if self.design == "mlp" else self.design != "dgm"
        most = max(extrema(problem).values()) if auto or (waves and not given) else 0
        suited: Activation = "sin" if is_oscillatory(most) else "tanh"
        return suited if self.activation == "auto" else self.activation, self.frequency or frequency(most)

    def architecture(self, problem: Residual, features: int, outputs: int) -> nn.Module:
        activation, first = self.layers
        width, depth = self._shape(activation)
        match self.design:
            case "mlp":
                return MLP(features, outputs, width, depth, activation, self.real, first)
            case "fourier":
                embedding = FourierFeatures(features, width, first, True, self.real)
                return nn.Sequential(embedding, MLP(embedding.features, outputs, width, depth, activation, self.real))
            case "piratenet":
                embedding = FourierFeatures(features, width, first, True, self.real)
                return PirateNet(embedding, outputs, depth, activation, self.factored, self.real)
            case "dgm":
                return GatedNetwork(features, outputs, width, depth, self.real)

    def refuses(self, problem: Residual) -> str | None:
        if self.factored and self.balance == "ntk":
            return "balance=ntk needs the derivatives of each row, which factored weights do not give"
        return super().refuses(problem)

    def schedule(self) -> tuple[Phase, ...]:
        if self.method in ("adam", "soap"):
            main = cooled(self.method, self.steps, self.learning_rate)
        elif self.method == "lbfgs":
            main = rounds(self.steps, self.resample_every)
        else:
            main = [Phase(self.method, self.steps)] if self.steps else []
        return self.staged([*cooled("adam", self.adam_steps, self.learning_rate), *main])
