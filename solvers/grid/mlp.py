"""The plain network that methods which know of structure have to beat."""

import torch
from torch import Tensor

from sciml.networks import MLP as Network
from sciml.parameters import Count, Positive

from ._on_pairs import OnPairs


class MLP(OnPairs):
    """Reads changes of structure as inputs like any other.

    y = W_L σ(... σ(W_1 (x, τ) + b_1) ...) + b_L

    The loss is the mean square error as the problem measures it. On 118 buses its steps take as long as those of
    ``leapnet``.

    Args:
        hidden: width of the hidden layers.
        layers: number of them.
        rows: pairs in a batch.
        steps: of Adam.
        learning_rate: of Adam, at the start.
    """

    def __init__(
        self,
        hidden: Count = 320,
        layers: Count = 3,
        rows: Count = 256,
        steps: Count = 7000,
        learning_rate: Positive = 1e-3,
    ) -> None:
        super().__init__(rows, steps, learning_rate)
        self.hidden = hidden
        self.layers = layers

    def shape(self, plain: int, changes: int, outputs: int) -> None:
        self.network = Network(plain + changes, outputs, self.hidden, self.layers, "silu", self.real)

    def standardised(self, x: Tensor, tau: Tensor) -> Tensor:
        return self.network(torch.cat([x, tau], dim=1))
