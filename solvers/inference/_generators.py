"""Networks that draw data given parameters, and what they learn by."""

from abc import abstractmethod
from copy import deepcopy
from typing import ClassVar

import torch
from torch import Tensor, nn

from sciml.inference.flows import Ensemble

PENALTY = 10.0
"""Weight of the penalty on the critic's slope, as published."""
MEMORY = 0.995
"""Share of the averaged generator that a step leaves."""


class Generator(nn.Module):
    """Draws y given c from normal noise z; both are on scales of order one.

    Args:
        data, given: sizes of y and of c.
    """

    noise: int
    """Size of z."""
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    """Those of Adam."""

    def start(self, y: Tensor, c: Tensor) -> None:
        """Begin with what can be found without training, from (n, data) and (n, given)."""

    @abstractmethod
    def losses(self, y: Tensor, c: Tensor, z: Tensor, mix: Tensor) -> dict[str, Tensor]:
        """Return the losses of rows (n, data), (n, given), normal (n, noise) and uniform (n, 1) numbers."""

    @abstractmethod
    def keep(self, y: Tensor, c: Tensor) -> None:
        """Keep, after a step, the weights that answer; of held-out rows."""

    @abstractmethod
    def bend(self, z: Tensor, c: Tensor) -> Tensor:
        """Return y of (n, noise) and (n, given), shape (n, data)."""


class FlowGenerator(Generator):
    """A flow of coupling layers, trained by its density: min E -log q(y|c), the weights of least held-out loss kept."""

    def __init__(self, data: int, given: int, width: int, real: torch.dtype) -> None:
        super().__init__()
        self.noise = data
        self.flow = Ensemble(("coupled",), 1, data, given, width, real)

    def start(self, y: Tensor, c: Tensor) -> None:
        self.flow.start([(y, c)])

    def losses(self, y: Tensor, c: Tensor, z: Tensor, mix: Tensor) -> dict[str, Tensor]:
        return {"density": self.flow.loss(y[None], c[None])}

    def keep(self, y: Tensor, c: Tensor) -> None:
        self.flow.keep(y[None], c[None])

    def bend(self, z: Tensor, c: Tensor) -> Tensor:
        return self.flow.bend(z[None], c[None])[0]


class WassersteinGAN(Generator):
    """A generator g(z, c) against a critic f(y, c) of slope one.

    min over g max over f of  E f(y, c) - E f(g(z, c), c) - 10 E (|∇ f(u y + (1 - u) g, c)| - 1)²,  u ~ U(0, 1)

    Both take their steps together, by Adam without memory of past gradients, as published, and the generator that
    answers is the running average of its weights, since the weights circle about the equilibrium. Sources: I. Gulrajani
    et al., Improved training of Wasserstein GANs, 2017, arXiv 1704.00028; Y. Yazıcı et al., The unusual effectiveness
    of averaging in GAN training, 2019, arXiv 1806.04498.
    """

    betas = (0.0, 0.9)

    def __init__(self, data: int, given: int, width: int, real: torch.dtype) -> None:
        super().__init__()
        self.noise = data
        self.generator = _network(data + given, width, data).to(real)
        self.critic = _network(data + given, width, 1).to(real)
        self.average = deepcopy(self.generator).requires_grad_(False)

    def losses(self, y: Tensor, c: Tensor, z: Tensor, mix: Tensor) -> dict[str, Tensor]:
        made = self.generator(torch.cat([z, c], dim=1))
        against = 2 * made.detach() - made  # the same values; what lowers the critic's loss is what raises it here
        between = (mix * y + (1 - mix) * made.detach()).requires_grad_()
        (slope,) = torch.autograd.grad(self._value(between, c).sum(), between, create_graph=True)
        return {
            "distance": self._value(against, c).mean() - self._value(y, c).mean(),
            "slope": PENALTY * (slope.norm(dim=1) - 1).square().mean(),
        }

    @torch.no_grad()
    def keep(self, y: Tensor, c: Tensor) -> None:
        for kept, now in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            kept.lerp_(now, 1 - MEMORY)

    @torch.no_grad()
    def bend(self, z: Tensor, c: Tensor) -> Tensor:
        return self.average(torch.cat([z, c], dim=1))

    def _value(self, y: Tensor, c: Tensor) -> Tensor:
        return self.critic(torch.cat([y, c], dim=1))


def _network(inputs: int, width: int, outputs: int) -> nn.Sequential:
    layers = nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
    return nn.Sequential(*layers, nn.Linear(width, outputs))
