"""What is believed of parameters before any data."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution


class Prior:
    """Independent parameters, p(θ) = Π p_k(θ_k).

    Args:
        marginals: the law of each parameter: scalar, float64, with an inverse distribution (``icdf``).
    """

    def __init__(self, marginals: Sequence[Distribution]) -> None:
        self.marginals = tuple(marginals)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw parameters, shape (count, parameters), float64 on the CPU, inside the support."""
        unit = torch.rand(count, len(self.marginals), generator=generator, dtype=torch.float64)
        return self.quantile(unit)

    def quantile(self, unit: Tensor) -> Tensor:
        """Map points of the unit cube to parameters by inverse distributions, both (n, parameters)."""
        edge = torch.finfo(unit.dtype).eps / 2  # inverse distributions are infinite at 0 and 1
        inside = unit.clamp(edge, 1 - edge)
        return torch.stack([law.icdf(u) for law, u in zip(self.marginals, inside.T, strict=True)], dim=1)

    def contains(self, theta: Tensor) -> Tensor:
        """Return for each row of (n, parameters) whether it lies in the support, shape (n,)."""
        columns = zip(self.marginals, theta.T, strict=True)
        return torch.stack([law.support.check(column) for law, column in columns], dim=1).all(dim=1)  # pyright: ignore[reportOptionalMemberAccess]

    def log_prob(self, theta: Tensor) -> Tensor:
        """Return log p(θ) of each row of (n, parameters), shape (n,); minus infinity outside the support."""
        inside = self.contains(theta)
        safe = torch.where(inside[:, None], theta, self.quantile(torch.full_like(theta, 0.5)))
        terms = [law.log_prob(column) for law, column in zip(self.marginals, safe.T, strict=True)]
        return torch.where(inside, torch.stack(terms).sum(dim=0), -torch.inf)

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each parameter, each of shape (parameters,)."""
        return (
            torch.stack([torch.as_tensor(law.mean) for law in self.marginals]),
            torch.stack([torch.as_tensor(law.stddev) for law in self.marginals]),
        )


def box(low: Sequence[float], high: Sequence[float]) -> Prior:
    """Return the uniform prior on a box, with its corners each of shape (parameters,)."""
    bounds = torch.tensor([list(low), list(high)], dtype=torch.float64).T
    return Prior([torch.distributions.Uniform(a, b) for a, b in bounds])
