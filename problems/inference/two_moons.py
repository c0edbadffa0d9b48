"""Two moons: a posterior of two crescents."""

import math

import numpy as np
import torch
from torch import Tensor

from sciml.inference.draws import Draws, RandomDraws
from sciml.inference.laws import Normal
from sciml.inference.priors import Prior, box
from sciml.inference.resampling import accepted
from sciml.problem import Variable

from ._published import Published


class TwoMoons(Published):
    """Each observation could come from either of two crescents of parameters.

    x = (r cos a + 1/4, r sin a) + (-|θ₁ + θ₂|, θ₂ - θ₁) / √2
    with a ~ U(-π/2, π/2), r ~ N(0.1, 0.01²), θ ~ U(-1, 1)²

    The reference is sampled exactly. Rotated by 45 degrees, s = (θ₁ + θ₂)/√2 and d = (θ₂ - θ₁)/√2, the data
    are x = p + (-|s|, d), where p is the noise alone. Given x and the sign of s, θ -> p is an isometry onto
    the half plane p₁ >= x₁, so p(θ|x) is the density of the noise at p, cut off at the edges of the prior:
    draw the noise, drop p₁ < x₁, take |s| = p₁ - x₁ with either sign equally likely, d = x₂ - p₂,
    and drop θ outside.
    Sources: D. Greenberg et al., Automatic posterior transformation for likelihood-free inference, 2019,
    arXiv 1905.07488; constants and observations of J.-M. Lueckmann et al., Benchmarking simulation-based
    inference, 2021, arXiv 2101.04653.
    """

    parameters = (Variable("theta_1"), Variable("theta_2"))
    data = (Variable("x_1"), Variable("x_2"))

    def prior(self) -> Prior:
        return box((-1, -1), (1, 1))

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        angle = draw.uniform(-math.pi / 2, math.pi / 2)
        radius = draw.normal(0.1, 0.01)
        total, difference = _turned(theta)
        first = radius * torch.cos(angle) + 0.25 - total.abs()
        return torch.stack([first, radius * torch.sin(angle) + difference], dim=1)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return log p(x|θ): the noise p has the polar density N(|p|; 0.1, 0.01²) / (π |p|) on the right half plane."""
        total, difference = _turned(theta)
        first, second = x[:, 0] - 0.25 + total.abs(), x[:, 1] - difference
        radius = torch.hypot(first, second)
        density = Normal(0.1, 0.01).log_prob(radius) - torch.log(math.pi * radius)
        return torch.where(first > 0, density, -torch.inf)

    def reference(self) -> np.ndarray:
        x = torch.from_numpy(self.observed())
        prior, draw = self.prior(), RandomDraws(self.samples, torch.Generator().manual_seed(0))

        def propose() -> Tensor:
            noise = self.simulate(torch.zeros(self.samples, 2, dtype=torch.float64), draw)
            size, difference = noise[:, 0] - x[0], x[1] - noise[:, 1]
            total = torch.where(draw.uniform(0, 1) < 0.5, -size, size)
            theta = torch.stack([total - difference, total + difference], dim=1) / math.sqrt(2)
            return theta[(size >= 0) & prior.contains(theta)]

        return accepted(propose, self.samples).numpy()


def _turned(theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return s and d, each (n,), of parameters (n, 2)."""
    return (theta[:, 0] + theta[:, 1]) / math.sqrt(2), (theta[:, 1] - theta[:, 0]) / math.sqrt(2)
