"""The deep Galerkin method."""

import torch
from torch import Tensor, nn

from sciml.networks import glorot
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


class GatedLayer(nn.Module):
    """One layer of the DGM network; every gate sees the coordinates x again.

    Z, G, R = tanh(U x + W S + b) each,  H = tanh(U_h x + W_h (S ∘ R) + b_h),  S' = (1 - G) ∘ H + Z ∘ S
    """

    def __init__(self, features: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.gates_x = nn.Linear(features, 3 * width, dtype=dtype)
        self.gates_s = nn.Linear(width, 3 * width, bias=False, dtype=dtype)
        self.h_x = nn.Linear(features, width, dtype=dtype)
        self.h_s = nn.Linear(width, width, bias=False, dtype=dtype)
        for linear in (self.gates_x, self.gates_s, self.h_x, self.h_s):
            glorot(linear, len(linear.weight) // width)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        z, g, r = torch.chunk(torch.tanh(self.gates_s(s) + self.gates_x(x)), 3, dim=1)
        h = torch.tanh(self.h_s(s * r) + self.h_x(x))
        return (1 - g) * h + z * s


class GatedNetwork(nn.Module):
    """The network of the DGM paper: ``S_1 = tanh(W x + b)``, gated layers, then a linear map.

    Args:
        features: width of x.
        outputs: width of the result.
        width: width of S.
        depth: number of gated layers.
        dtype: of the weights.
    """

    def __init__(self, features: int, outputs: int, width: int, depth: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.first = nn.Linear(features, width, dtype=dtype)
        self.gated = nn.ModuleList(GatedLayer(features, width, dtype) for _ in range(depth))
        self.last = nn.Linear(width, outputs, dtype=dtype)
        glorot(self.first)
        glorot(self.last)

    def forward(self, x: Tensor) -> Tensor:
        s = torch.tanh(self.first(x))
        for layer in self.gated:
            s = layer(x, s)
        return self.last(s)
