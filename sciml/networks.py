"""Networks that map coordinates to fields."""

import itertools
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["tanh", "sin", "silu"]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "sin": torch.sin, "silu": F.silu}


class Normalise(nn.Module):
    """The linear map of a box onto [-1, 1]ᵈ; a periodic axis goes to cos and sin of multiples of its angle.

    Exact periodicity after S. Dong, N. Ni, A method for representing periodic functions and enforcing exactly
    periodic boundary conditions with deep neural networks, J. Comput. Phys. 435 (2021), arXiv 2007.07442.

    Args:
        bounds: low and high of each input, shape (d, 2).
        periodic: for each input, whether fields repeat after its length.
        dtype: of the numbers.
        harmonics: how many multiples of the angle, the angle itself being the first.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, bounds: np.ndarray, periodic: tuple[bool, ...], dtype: torch.dtype, harmonics: int = 1) -> None:
        super().__init__()
        turns = np.array(periodic)
        low, high = np.asarray(bounds, dtype=float).T
        scale = np.where(turns, np.pi, 1.0) * 2 / (high - low)
        weight, bias = np.diag(scale), -scale * (low + high) / 2
        multiples = np.arange(1, harmonics + 1)
        rows = [weight[~turns], *(k * weight[turns] for k in multiples)]
        shifts = [bias[~turns], *(k * bias[turns] for k in multiples)]
        self.register_buffer("weight", torch.as_tensor(np.concatenate(rows), dtype=dtype), persistent=False)
        self.register_buffer("bias", torch.as_tensor(np.concatenate(shifts), dtype=dtype), persistent=False)
        self.straight = len(periodic) - sum(periodic)
        self.features = self.straight + 2 * harmonics * sum(periodic)

    def forward(self, points: Tensor) -> Tensor:
        scaled = F.linear(points, self.weight, self.bias)
        if self.features == self.straight:
            return scaled
        straight, angle = scaled[:, : self.straight], scaled[:, self.straight :]
        return torch.cat([straight, torch.cos(angle), torch.sin(angle)], dim=1)


class FourierFeatures(nn.Module):
    """Random Fourier features, ``x -> (cos(B x), sin(B x))`` with entries of B from N(0, scale²).

    Source: M. Tancik et al., Fourier features let networks learn high frequency functions in low dimensional
    domains, NeurIPS 2020, arXiv 2006.10739.

    Args:
        inputs: width of x.
        features: width of the result, twice the number of rows of B.
        scale: standard deviation of the angular frequencies.
        trained: whether B is trained.
        dtype: of the weights.
    """

    frequencies: Tensor

    def __init__(self, inputs: int, features: int, scale: float, trained: bool, dtype: torch.dtype) -> None:
        super().__init__()
        frequencies = scale * torch.randn(-(-features // 2), inputs, dtype=dtype)
        if trained:
            self.frequencies = nn.Parameter(frequencies)
        else:
            self.register_buffer("frequencies", frequencies)
        self.features = 2 * len(frequencies)

    def forward(self, x: Tensor) -> Tensor:
        angle = F.linear(x, self.frequencies)
        return torch.cat([torch.cos(angle), torch.sin(angle)], dim=1)


class MLP(nn.Module):
    """A fully connected network, ``x -> W_L σ(... σ(W_1 x + b_1) ...) + b_L``.

    Weights start as Glorot's; between sines they are uniform with variance 2 / width, which keeps the
    variance of the angles between 0.8 and 1 from layer to layer, after phases that are uniform over the circle.
    Source: V. Sitzmann et al., Implicit neural representations with periodic activation functions, NeurIPS 2020,
    arXiv 2006.09661.

    Args:
        inputs: width of x.
        outputs: width of the result.
        width: width of each hidden layer.
        depth: number of hidden layers.
        activation: σ.
        dtype: of the weights.
        frequency: of sines, the greatest angular frequency of the first layer.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        depth: int,
        activation: Activation,
        dtype: torch.dtype,
        frequency: float = 1.0,
    ) -> None:
        super().__init__()
        self.activation = activation
        sizes = [inputs, *[width] * depth, outputs]
        layers = [nn.Linear(a, b, dtype=dtype) for a, b in itertools.pairwise(sizes)]
        for layer in layers:
            glorot(layer)
        if activation == "sin":
            _sines(layers, frequency)
        self.layers = nn.ModuleList(layers)

    @property
    def last(self) -> nn.Linear:
        """The linear map that ends the network."""
        layer = self.layers[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = _ACTIVATIONS[self.activation](layer(x))
        return last(x)


class Factored(nn.Module):
    """A linear layer whose weights are factored, ``x -> diag(g) V x + b`` with ``g = exp(s)``, s from N(1, 0.1²).

    Source: S. Wang et al., Random weight factorization improves the training of continuous neural
    representations, 2022, arXiv 2210.01274.

    Args:
        inputs: width of x.
        outputs: width of the result.
        dtype: of the weights.
    """

    def __init__(self, inputs: int, outputs: int, dtype: torch.dtype) -> None:
        super().__init__()
        plain = nn.Linear(inputs, outputs, dtype=dtype)
        glorot(plain)
        scale = torch.exp(1 + 0.1 * torch.randn(outputs, dtype=dtype))
        self.scale = nn.Parameter(scale)
        self.direction = nn.Parameter(plain.weight.detach() / scale[:, None])
        self.bias = plain.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.scale[:, None] * self.direction, self.bias)


class PirateBlock(nn.Module):
    """One adaptive residual block between two gates u and v; with α = 0 at the start it is the identity.

    f = σ(W_1 x + b_1),  y = f u + (1 - f) v,  g = σ(W_2 y + b_2),  z = g u + (1 - g) v,
    h = σ(W_3 z + b_3),  x' = α h + (1 - α) x
    """

    def __init__(self, width: int, activation: Activation, factored: bool, dtype: torch.dtype) -> None:
        super().__init__()
        self.activation = activation
        self.layers = nn.ModuleList(_dense(width, width, factored, dtype) for _ in range(3))
        self.alpha = nn.Parameter(torch.zeros((), dtype=dtype))

    def forward(self, x: Tensor, difference: Tensor, v: Tensor) -> Tensor:
        """Return x' from x, u - v and v."""
        f, g, h = self.layers
        act = _ACTIVATIONS[self.activation]
        y = v + act(f(x)) * difference
        z = v + act(g(y)) * difference
        return x + self.alpha * (act(h(z)) - x)


class PirateNet(nn.Module):
    """A residual network that starts linear in its embedding Φ(x), and deepens as its blocks' α leave zero.

    Gates u = σ(W_u Φ + b_u), v = σ(W_v Φ + b_v) serve all blocks; a linear map ends it.
    Source: S. Wang, B. Li, Y. Chen, P. Perdikaris, PirateNets: physics-informed deep learning with residual
    adaptive networks, 2024, arXiv 2402.00326.

    Args:
        embedding: Φ, with an attribute ``features``, the width of its result.
        outputs: width of the result.
        depth: number of blocks, each of three layers.
        activation: σ.
        factored: whether the layers within are `Factored`.
        dtype: of the weights.
    """

    def __init__(
        self,
        embedding: FourierFeatures,
        outputs: int,
        depth: int,
        activation: Activation,
        factored: bool,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.embedding = embedding
        width = embedding.features
        self.gates = nn.ModuleList(_dense(width, width, factored, dtype) for _ in range(2))
        self.blocks = nn.ModuleList(PirateBlock(width, activation, factored, dtype) for _ in range(depth))
        self.last = nn.Linear(width, outputs, dtype=dtype)
        glorot(self.last)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        u, v = (_ACTIVATIONS[self.activation](gate(x)) for gate in self.gates)
        difference = u - v
        for block in self.blocks:
            x = block(x, difference, v)
        return self.last(x)


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
    """The DGM network: ``S_1 = tanh(W x + b)``, gated layers, then a linear map.

    Source: J. Sirignano, K. Spiliopoulos, DGM: a deep learning algorithm for solving partial differential
    equations, J. Comput. Phys. 375 (2018), arXiv 1708.07469.

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


def glorot(layer: nn.Linear, blocks: int = 1) -> None:
    """Give a linear layer Glorot's uniform weights, block by stacked block, and no bias."""
    for block in layer.weight.data.chunk(blocks):
        nn.init.xavier_uniform_(block)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _sines(layers: list[nn.Linear], frequency: float) -> None:
    """Start a network of sines: random phases first, then angles of variance 1."""
    first, *within = layers[:-1]
    nn.init.uniform_(first.weight, -frequency, frequency)
    nn.init.uniform_(first.bias, -torch.pi, torch.pi)
    for layer in within:
        bound = (6 / layer.in_features) ** 0.5
        nn.init.uniform_(layer.weight, -bound, bound)


def _dense(inputs: int, outputs: int, factored: bool, dtype: torch.dtype) -> nn.Module:
    if factored:
        return Factored(inputs, outputs, dtype)
    layer = nn.Linear(inputs, outputs, dtype=dtype)
    glorot(layer)
    return layer
