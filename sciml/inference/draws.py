"""Where a simulator's randomness comes from: it is written once and read by whoever hands it the draws."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor


class Draws(ABC):
    """A source of draws for a batch of simulations.

    Every argument is a number, or a tensor whose first dimension is the batch. A draw has the shape to which
    its arguments broadcast; from numbers alone it is one draw for each simulation, of shape (n,). Draws are
    independent of each other.
    """

    @abstractmethod
    def uniform(self, low: float | Tensor, high: float | Tensor) -> Tensor:
        """Draw from the uniform law on [low, high)."""

    @abstractmethod
    def normal(self, mean: float | Tensor, deviation: float | Tensor) -> Tensor:
        """Draw from the normal law with that mean and standard deviation."""


class RandomDraws(Draws):
    """Draws by a seeded generator: the simulator reads as a sampler.

    Args:
        count: simulations in the batch, n.
        generator: the source of randomness; draws are made on its device.
        dtype: of the draws.
    """

    def __init__(self, count: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> None:
        self._count = count
        self._generator = generator
        self._dtype = dtype

    def uniform(self, low: float | Tensor, high: float | Tensor) -> Tensor:
        return low + (high - low) * self._unit(torch.rand, low, high)

    def normal(self, mean: float | Tensor, deviation: float | Tensor) -> Tensor:
        return mean + deviation * self._unit(torch.randn, mean, deviation)

    def _unit(self, law: Callable[..., Tensor], *arguments: float | Tensor) -> Tensor:
        shapes = [a.shape for a in arguments if isinstance(a, Tensor)]
        shape = torch.broadcast_shapes(*shapes) if shapes else (self._count,)
        return law(shape, generator=self._generator, dtype=self._dtype, device=self._generator.device)
