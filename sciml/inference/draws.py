"""Where a simulator's randomness comes from: it is written once and read by whoever hands it the draws."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from sciml.inference.laws import (
    Bernoulli,
    Binomial,
    Categorical,
    Exponential,
    Gamma,
    Law,
    LogNormal,
    MultivariateNormal,
    Noise,
    Normal,
    Number,
    Poisson,
    Uniform,
)


class Draws(ABC):
    """A source of draws for a batch of simulations.

    Every argument is a number, or a tensor whose first dimension is the batch. A draw has the shape to which
    its arguments broadcast; from numbers alone it is one draw for each simulation, of shape (n,). Draws are
    independent of each other.
    """

    @abstractmethod
    def draw(self, law: Law) -> Tensor:
        """Draw from a law."""

    def uniform(self, low: Number, high: Number) -> Tensor:
        """Draw from the uniform law on [low, high)."""
        return self.draw(Uniform(low, high))

    def normal(self, mean: Number, deviation: Number) -> Tensor:
        """Draw from the normal law with that mean and standard deviation."""
        return self.draw(Normal(mean, deviation))

    def log_normal(self, mean: Number, deviation: Number) -> Tensor:
        """Draw the exponential of a normal number with that mean and standard deviation."""
        return self.draw(LogNormal(mean, deviation))

    def multivariate_normal(self, mean: Tensor, factor: Tensor) -> Tensor:
        """Draw vectors of mean (n, ..., d) and covariance L Lᵀ, L = ``factor`` of shape (..., d, d)."""
        return self.draw(MultivariateNormal(mean, factor))

    def bernoulli(self, probability: Number) -> Tensor:
        """Draw 1.0 with that probability, else 0.0."""
        return self.draw(Bernoulli(probability))

    def categorical(self, probabilities: Tensor) -> Tensor:
        """Draw whole numbers k with ``probabilities`` of shape (categories,) or (n, ..., categories)."""
        return self.draw(Categorical(probabilities))

    def poisson(self, rate: Number) -> Tensor:
        """Draw counts of that rate."""
        return self.draw(Poisson(rate))

    def binomial(self, trials: Number, probability: Number) -> Tensor:
        """Draw the number of successes among that many trials."""
        return self.draw(Binomial(trials, probability))

    def exponential(self, rate: Number) -> Tensor:
        """Draw waiting times of that rate."""
        return self.draw(Exponential(rate))

    def gamma(self, concentration: Number, rate: Number) -> Tensor:
        """Draw from the gamma law with that shape and rate."""
        return self.draw(Gamma(concentration, rate))


class RandomDraws(Draws):
    """Draws by a seeded generator: the simulator reads as a sampler.

    Uniform, normal, log-normal, exponential and gamma draws differentiate through to their arguments.

    Args:
        count: simulations in the batch, n.
        generator: the source of randomness; draws are made on its device.
        dtype: of the draws.
    """

    def __init__(self, count: int, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> None:
        self._noise = Noise(count, generator, dtype)

    def draw(self, law: Law) -> Tensor:
        return law.sample(self._noise)


class CommonDraws(Draws):
    """Draws as monotone functions of the same uniform numbers whatever their arguments: common random numbers.

    Two runs with the same seed differ by what their parameters differ alone, so differences between them have
    little variance. Every draw inverts its distribution function, on the CPU; all but Poisson, binomial and
    gamma draws, and the discrete ones by nature, differentiate through to their arguments.

    Args:
        count: simulations in the batch, n.
        seed: of the uniform numbers.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._noise = Noise(count, torch.Generator().manual_seed(seed))

    def draw(self, law: Law) -> Tensor:
        edge = torch.finfo(self._noise.dtype).eps / 2
        return law.quantile(self._noise.uniform(law.shape(self._noise.count)).clamp(edge, 1 - edge))
