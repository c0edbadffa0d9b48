"""The g-and-k law, known by its quantiles alone."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.special import ndtri

from sciml.inference.draws import Draws
from sciml.inference.laws import Inverted, Normal
from sciml.inference.priors import Prior, box
from sciml.problem import Variable

from ._observed import Observed

POINTS = 50
ASYMMETRY = 0.8
FARTHEST = 38.0
"""Standard normal numbers beyond have no density in double precision."""
BISECTIONS = 6
NEWTON_STEPS = 12


@dataclass(frozen=True)
class GAndKLaw(Inverted):
    """a + b (1 + 0.8 tanh(g z/2)) (1 + z²)^k z of a standard normal z, b > 0 and k >= 0; arguments broadcast."""

    a: Tensor
    b: Tensor
    g: Tensor
    k: Tensor

    def quantile(self, unit: Tensor) -> Tensor:
        return self.at(ndtri(unit))

    def at(self, z: Tensor) -> Tensor:
        """Return the value of a standard normal z."""
        return self.a + self.b * (1 + ASYMMETRY * torch.tanh(self.g * z / 2)) * (1 + z**2) ** self.k * z

    def slope(self, z: Tensor) -> Tensor:
        """Return the derivative by z, which is positive."""
        tanh, square = torch.tanh(self.g * z / 2), 1 + z**2
        skewed = 1 + ASYMMETRY * tanh
        lean = ASYMMETRY * self.g * (1 - tanh**2) / 2 * z * square
        return self.b * square ** (self.k - 1) * (skewed * (square + 2 * self.k * z**2) + lean)

    def normal(self, value: Tensor) -> Tensor:
        """Return the standard normal number of a value, by bisection and then Newton's method inside the bracket."""
        with torch.no_grad():
            high = torch.full_like(value, FARTHEST)
            low, z = -high, torch.zeros_like(value)
            for k in range(BISECTIONS + NEWTON_STEPS):
                lack = value - self.at(z)
                low, high = torch.where(lack > 0, z, low), torch.where(lack > 0, high, z)
                roots = low.sign() * low.abs().sqrt(), high.sign() * high.abs().sqrt()
                middle = (roots[0] + roots[1]) / 2
                step = z + lack / self.slope(z) if k >= BISECTIONS else torch.full_like(z, torch.nan)
                z = torch.where((step >= low) & (step <= high), step, middle * middle.abs())
        return z + (value - self.at(z)) / self.slope(z)  # whose derivatives are those of the inverse

    def log_prob(self, value: Tensor) -> Tensor:
        z = self.normal(value)
        density = Normal(0.0, 1.0).log_prob(z) - self.slope(z).log()
        return torch.where(z.abs() < FARTHEST, density, -torch.inf)


class GAndK(Observed):
    """Location, scale, asymmetry and tails of a law of which fifty draws are seen.

    x_i = A + B (1 + 0.8 (1 - e^(-g z_i)) / (1 + e^(-g z_i))) (1 + z_i²)^k z_i,  z_i ~ N(0, 1)
    with A, B, g ~ U(0, 10), k ~ U(0, 1)

    The law has a quantile function and no density in closed form; its density is that of z over the slope of x there,
    once x is inverted numerically, and so the likelihood is exact.
    Source: G. D. Rayner, H. L. MacGillivray, Numerical maximum likelihood estimation for the g-and-k and generalized
    g-and-h distributions, Statistics and Computing 12, 2002; the prior and the observations are ours.

    Args:
        observation: which of ten observations is scored.
        samples: posterior samples to compare with as many of the reference.
    """

    checksum = "debcb3435b22faa1e762651f3695a4a65f0a8c0161f7d90876bdeff85074b388"
    parameters = (Variable("A"), Variable("B"), Variable("g"), Variable("k"))
    data = tuple(Variable(f"x_{k}") for k in range(1, POINTS + 1))

    def prior(self) -> Prior:
        return box((0, 0, 0, 0), (10, 10, 10, 1))

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return draw.draw(GAndKLaw(*(column[:, None].expand(-1, POINTS) for column in theta.T)))
