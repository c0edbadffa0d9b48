"""LEAP nets: latent encoding of atypical perturbations."""

import torch
from torch import Tensor, nn

from sciml.networks import MLP
from sciml.parameters import Count, Positive

from ._on_pairs import OnPairs


class Leap(nn.Module):
    """h ↦ h + D((E h + b) ⊙ τ): each change of structure moves the latent state along directions of its own.

    Args:
        latent: components of h.
        structure: components of τ.
        units: how often each of them is repeated.
        real: dtype.
    """

    def __init__(self, latent: int, structure: int, units: int, real: torch.dtype) -> None:
        super().__init__()
        self.units = units
        self.encode = nn.Linear(latent, structure * units, dtype=real)
        self.decode = nn.Linear(structure * units, latent, bias=False, dtype=real)

    def forward(self, h: Tensor, tau: Tensor) -> Tensor:
        """Return the moved latent state, (n, latent), of h (n, latent) under τ (n, structure)."""
        return h + self.decode(self.encode(h) * tau.repeat_interleave(self.units, dim=1))


class LeapNet(OnPairs):
    """Encodes the inputs, leaps in latent space as the structure says, decodes.

    y = decoder(h + D((E h + b) ⊙ τ)),  h = encoder(x)

    The loss is the mean square error as the problem measures it; a grid's measure are the flows. h should be as
    wide as there are independent inputs. Source: B. Donnot, B. Donon, I. Guyon, Z. Liu, A. Marot, P. Panciatici and M.
    Schoenauer, LEAP nets for power grid perturbations, 2019, arXiv 1908.08314.

    Args:
        latent: components of h.
        units: directions in which each change of structure moves h.
        hidden: width of the hidden layers of encoder and decoder.
        layers: number of them, in each.
        rows: pairs in a batch.
        steps: of Adam.
        learning_rate: of Adam, at the start.
    """

    def __init__(
        self,
        latent: Count = 320,
        units: Count = 1,
        hidden: Count = 320,
        layers: Count = 1,
        rows: Count = 256,
        steps: Count = 6000,
        learning_rate: Positive = 1e-3,
    ) -> None:
        super().__init__(rows, steps, learning_rate)
        self.width = latent
        self.units = units
        self.hidden = hidden
        self.layers = layers

    def shape(self, plain: int, changes: int, outputs: int) -> None:
        self.encoder = self._network(plain, self.width)
        self.leap = Leap(self.width, changes, self.units, self.real)
        self.decoder = self._network(self.width, outputs)

    def _network(self, inputs: int, outputs: int) -> MLP:
        return MLP(inputs, outputs, self.hidden, self.layers, "silu", self.real)

    def standardised(self, x: Tensor, tau: Tensor) -> Tensor:
        return self.decoder(self.leap(self.encoder(x), tau))
