"""The laws of draws: how each is sampled, inverted and evaluated, on batches of arguments."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor, distributions

Number = float | Tensor


@dataclass(frozen=True)
class Noise:
    """A seeded source of standard noise.

    Args:
        count: simulations in the batch, n.
        generator: the source of randomness; noise is made on its device.
        dtype: of the noise.
    """

    count: int
    generator: torch.Generator
    dtype: torch.dtype = torch.float64

    def uniform(self, shape: torch.Size) -> Tensor:
        """Draw from U(0, 1)."""
        return torch.rand(shape, generator=self.generator, dtype=self.dtype, device=self.generator.device)

    def normal(self, shape: torch.Size) -> Tensor:
        """Draw from N(0, 1)."""
        return torch.randn(shape, generator=self.generator, dtype=self.dtype, device=self.generator.device)

    def full(self, value: Number, shape: torch.Size) -> Tensor:
        """Return an argument of a law, expanded to the shape of its draws."""
        value = torch.as_tensor(value, dtype=self.dtype, device=self.generator.device)
        return value.expand(shape).contiguous()


class Law(ABC):
    """A law with arguments that are numbers, or tensors whose first dimension is the batch."""

    def shape(self, count: int) -> torch.Size:
        """Return the shape of a draw: to which the arguments broadcast; from numbers alone (count,)."""
        return _broadcast(count, *vars(self).values())

    @abstractmethod
    def sample(self, noise: Noise) -> Tensor:
        """Draw, as fast as may be."""

    @abstractmethod
    def quantile(self, unit: Tensor) -> Tensor:
        """Map uniform numbers, of the shape of a draw, to draws by the inverse distribution function."""

    @abstractmethod
    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density, or the log probability, of each element of a draw."""


class Inverted(Law):
    """A law whose quickest sampler is its inverse distribution function."""

    def sample(self, noise: Noise) -> Tensor:
        return self.quantile(noise.uniform(self.shape(noise.count)))


@dataclass(frozen=True)
class Uniform(Inverted):
    """U(low, high)."""

    low: Number
    high: Number

    def quantile(self, unit: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * unit

    def log_prob(self, value: Tensor) -> Tensor:
        width = torch.as_tensor(self.high - self.low, dtype=value.dtype)
        inside = (value >= self.low) & (value <= self.high)
        return torch.where(inside, -width.log(), -torch.inf)


@dataclass(frozen=True)
class Normal(Law):
    """N(mean, deviation²)."""

    mean: Number
    deviation: Number

    def sample(self, noise: Noise) -> Tensor:
        return self.mean + self.deviation * noise.normal(self.shape(noise.count))

    def quantile(self, unit: Tensor) -> Tensor:
        return self.mean + self.deviation * torch.special.ndtri(unit)

    def log_prob(self, value: Tensor) -> Tensor:
        return distributions.Normal(self.mean, self.deviation, validate_args=False).log_prob(value)


@dataclass(frozen=True)
class LogNormal(Law):
    """exp of N(mean, deviation²)."""

    mean: Number
    deviation: Number

    def sample(self, noise: Noise) -> Tensor:
        return Normal(self.mean, self.deviation).sample(noise).exp()

    def quantile(self, unit: Tensor) -> Tensor:
        return Normal(self.mean, self.deviation).quantile(unit).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        return Normal(self.mean, self.deviation).log_prob(value.log()) - value.log()


@dataclass(frozen=True)
class MultivariateNormal(Law):
    """N(mean, factor factorᵀ), with mean (..., d) and a lower triangular factor (..., d, d)."""

    mean: Tensor
    factor: Tensor

    def shape(self, count: int) -> torch.Size:
        return torch.broadcast_shapes(self.mean.shape, self.factor.shape[:-1])

    def sample(self, noise: Noise) -> Tensor:
        return self._affine(noise.normal(self.shape(noise.count)))

    def quantile(self, unit: Tensor) -> Tensor:
        return self._affine(torch.special.ndtri(unit))

    def log_prob(self, value: Tensor) -> Tensor:
        law = distributions.MultivariateNormal(self.mean, scale_tril=self.factor, validate_args=False)
        return law.log_prob(value)

    def _affine(self, standard: Tensor) -> Tensor:
        return self.mean + (self.factor @ standard[..., None])[..., 0]


@dataclass(frozen=True)
class Bernoulli(Inverted):
    """1 with that probability, else 0."""

    probability: Number

    def quantile(self, unit: Tensor) -> Tensor:
        return (unit < self.probability).to(unit.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        probability = torch.as_tensor(self.probability, dtype=value.dtype)
        return torch.where(value == 1, probability, 1 - probability).log()


@dataclass(frozen=True)
class Categorical(Inverted):
    """k with probability p_k; probabilities of shape (categories,), or (n, ..., categories)."""

    probabilities: Tensor

    def shape(self, count: int) -> torch.Size:
        return self.probabilities.shape[:-1] or torch.Size([count])

    def quantile(self, unit: Tensor) -> Tensor:
        return (unit[..., None] >= self.probabilities.cumsum(-1)[..., :-1]).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        logs = self.probabilities.log().expand(*value.shape, -1)
        return logs.gather(-1, value[..., None])[..., 0]


@dataclass(frozen=True)
class Poisson(Law):
    """Counts of that rate."""

    rate: Number

    def sample(self, noise: Noise) -> Tensor:
        return torch.poisson(noise.full(self.rate, self.shape(noise.count)), noise.generator)

    def quantile(self, unit: Tensor) -> Tensor:
        return _by_scipy(stats.poisson, unit, self.rate)

    def log_prob(self, value: Tensor) -> Tensor:
        return distributions.Poisson(self.rate, validate_args=False).log_prob(value)


@dataclass(frozen=True)
class Binomial(Law):
    """Successes among that many trials."""

    trials: Number
    probability: Number

    def sample(self, noise: Noise) -> Tensor:
        shape = self.shape(noise.count)
        trials, probability = (noise.full(a, shape) for a in (self.trials, self.probability))
        return torch.binomial(trials, probability, noise.generator)

    def quantile(self, unit: Tensor) -> Tensor:
        return _by_scipy(stats.binom, unit, self.trials, self.probability)

    def log_prob(self, value: Tensor) -> Tensor:
        trials = torch.as_tensor(self.trials, dtype=value.dtype)
        choices = torch.lgamma(trials + 1) - torch.lgamma(value + 1) - torch.lgamma(trials - value + 1)
        p = torch.as_tensor(self.probability, dtype=value.dtype)
        return choices + torch.special.xlogy(value, p) + torch.special.xlog1py(trials - value, -p)


@dataclass(frozen=True)
class Exponential(Inverted):
    """Waiting times of that rate."""

    rate: Number

    def quantile(self, unit: Tensor) -> Tensor:
        return -torch.log1p(-unit) / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        return distributions.Exponential(self.rate, validate_args=False).log_prob(value)


@dataclass(frozen=True)
class Gamma(Law):
    """The gamma law with that shape and rate."""

    concentration: Number
    rate: Number

    def sample(self, noise: Noise) -> Tensor:
        concentration = noise.full(self.concentration, self.shape(noise.count))
        # The public gamma law takes no generator.
        standard = torch._standard_gamma(concentration, generator=noise.generator)  # pyright: ignore[reportPrivateImportUsage]
        return standard / self.rate

    def quantile(self, unit: Tensor) -> Tensor:
        return _by_scipy(stats.gamma, unit, self.concentration) / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        return distributions.Gamma(self.concentration, self.rate, validate_args=False).log_prob(value)


def _broadcast(count: int, *arguments: Number) -> torch.Size:
    shapes = [a.shape for a in arguments if isinstance(a, Tensor)]
    return torch.broadcast_shapes(*shapes) if shapes else torch.Size([count])


def _by_scipy(law: stats.rv_continuous | stats.rv_discrete, unit: Tensor, *arguments: Number) -> Tensor:
    plain = (a.detach().numpy() if isinstance(a, Tensor) else a for a in arguments)
    return torch.as_tensor(law.ppf(unit.numpy(), *plain), dtype=unit.dtype)
