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
    """The linear map of a box onto [-1, 1]ᵈ; a periodic axis goes to ``(cos, sin)`` of its angle.

    Args:
        bounds: low and high of each input, shape (d, 2).
        periodic: for each input, whether fields repeat after its length.
        dtype: of the numbers.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, bounds: np.ndarray, periodic: tuple[bool, ...], dtype: torch.dtype) -> None:
        super().__init__()
        low, high = torch.as_tensor(bounds, dtype=dtype).T
        turns = torch.as_tensor(periodic)
        scale = torch.where(turns, torch.pi * torch.ones_like(low), 1.0) * 2 / (high - low)
        order = torch.argsort(turns.int(), stable=True)
        self.register_buffer("weight", torch.diag(scale)[order], persistent=False)
        self.register_buffer("bias", (-scale * (low + high) / 2)[order], persistent=False)
        self.straight = len(periodic) - sum(periodic)
        self.features = len(periodic) + sum(periodic)

    def forward(self, points: Tensor) -> Tensor:
        scaled = F.linear(points, self.weight, self.bias)
        if self.features == self.straight:
            return scaled
        straight, angle = scaled[:, : self.straight], scaled[:, self.straight :]
        return torch.cat([straight, torch.cos(angle), torch.sin(angle)], dim=1)


class MLP(nn.Module):
    """A fully connected network, ``x -> W_L σ(... σ(W_1 x + b_1) ...) + b_L``, with Glorot's initial weights.

    Args:
        inputs: width of x.
        outputs: width of the result.
        width: width of each hidden layer.
        depth: number of hidden layers.
        activation: σ.
        dtype: of the weights.
    """

    def __init__(
        self, inputs: int, outputs: int, width: int, depth: int, activation: Activation, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.activation = activation
        sizes = [inputs, *[width] * depth, outputs]
        layers = [nn.Linear(a, b, dtype=dtype) for a, b in itertools.pairwise(sizes)]
        for layer in layers:
            glorot(layer)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = _ACTIVATIONS[self.activation](layer(x))
        return last(x)


def glorot(layer: nn.Linear, blocks: int = 1) -> None:
    """Give a linear layer Glorot's uniform weights, block by stacked block, and no bias."""
    for block in layer.weight.data.chunk(blocks):
        nn.init.xavier_uniform_(block)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
