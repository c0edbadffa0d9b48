"""LEAP nets: latent encoding of atypical perturbations."""

import torch
from torch import Tensor, nn

from sciml.networks import MLP
from sciml.parameters import Count, Positive

from ._on_pairs import OnPairs


class Leap(nn.Module):
    """h ↦ h + D((E h + b) ⊙ τ): each change of structure moves the latent state along directions of its own.

    Leaps begin small and the same for every h, E = 0 and b = 1: a change that is met in few examples is learnt by its
    mean first, and directions of h that no example has do not bear on it.

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
        nn.init.zeros_(self.encode.weight)
        nn.init.ones_(self.encode.bias)
        nn.init.normal_(self.decode.weight, std=1e-3)

    def forward(self, h: Tensor, tau: Tensor) -> Tensor:
        """Return the moved latent state, (n, latent), of h (n, latent) under τ (n, structure)."""
        return h + self.decode(self.encode(h) * tau.repeat_interleave(self.units, dim=1))


class Bent(nn.Module):
    """x ↦ A x + N(x), a network N beside a linear map: load flows are linear for the most part.

    Args:
        inputs: components of x.
        outputs: components of the result.
        hidden: width of the network's hidden layers.
        layers: number of them.
        real: dtype.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int, layers: int, real: torch.dtype) -> None:
        super().__init__()
        self.straight = nn.Linear(inputs, outputs, bias=False, dtype=real)
        self.network = MLP(inputs, outputs, hidden, layers, "silu", real)

    def forward(self, x: Tensor) -> Tensor:
        return self.straight(x) + self.network(x)


class LeapNet(OnPairs):
    """Encodes the inputs, leaps in latent space as the structure says, decodes.

    y = decoder(h + D((E h + b) ⊙ τ)),  h = encoder(x)

    Encoder and decoder are networks beside linear maps. The loss is the mean square error as the problem measures it; a
    grid's measure are the flows. h should be as wide as there are independent inputs. Source: B. Donnot, B. Donon, I.
    Guyon, Z. Liu, A. Marot, P. Panciatici and M. Schoenauer, LEAP nets for power grid perturbations, 2019, arXiv
    1908.08314.

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
        steps: Count = 5000,
        learning_rate: Positive = 1e-3,
    ) -> None:
        super().__init__(rows, steps, learning_rate)
        self.width = latent
        self.units = units
        self.hidden = hidden
        self.layers = layers

    def shape(self, plain: int, changes: int, outputs: int) -> None:
        self.encoder = Bent(plain, self.width, self.hidden, self.layers, self.real)
        self.leap = Leap(self.width, changes, self.units, self.real)
        self.decoder = Bent(self.width, outputs, self.hidden, self.layers, self.real)

    def standardised(self, x: Tensor, tau: Tensor) -> Tensor:
        return self.decoder(self.leap(self.encoder(x), tau))
