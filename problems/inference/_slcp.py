"""A simple likelihood with a complex posterior: four points of a plane, and what follows from them exactly."""

import math
from abc import abstractmethod
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sciml.inference.draws import Draws, RandomDraws
from sciml.inference.priors import Prior, box
from sciml.inference.resampling import accepted
from sciml.problem import Variable

from ._published import Published

POINTS = 4
JITTER = 1e-6
"""Added to both variances, as published."""
PROPOSALS = 2**17
HIGHEST = 9.0
"""Above (|S| (1 - ρ²))^(1/4) inside the prior."""


class FourPoints(Published):
    """Four points of a normal law in the plane, whose mean and covariance are the five parameters.

    x_i ~ N(m, S),  m = (θ₁, θ₂),  S = [[s₁², ρ s₁ s₂], [ρ s₁ s₂, s₂²]],
    s₁ = θ₃², s₂ = θ₄², ρ = tanh θ₅,  θ ~ U(-3, 3)⁵

    The reference is sampled exactly. Without the edges of the prior, m given S is normal, N(x̄, S/4), and
    integrating it out leaves |S|^(-3/2) exp(-tr(S⁻¹ W)/2) with the scatter W of the points. As dS/dθ is
    16 (s₁ s₂)^(1/2) (1 - ρ²) s₁² s₂², the law of S is that of the inverse Wishart law of W and 3 degrees of freedom,
    times (|S| (1 - ρ²))^(1/4) < 9: so S is drawn by rejection, then m and the signs of θ₃ and θ₄, and the whole is
    dropped where it lies outside the prior.
    """

    parameters = tuple(Variable(f"theta_{k}") for k in range(1, 6))

    def prior(self) -> Prior:
        return box((-3,) * 5, (3,) * 5)

    def points(self, theta: Tensor, draw: Draws) -> Tensor:
        """Draw the points, the second coordinate given the first, shape (n, 8)."""
        first, second, covariance = _covariances(theta[:, 2:])
        x = draw.normal(theta[:, 0:1].expand(-1, POINTS), first.sqrt()[:, None])
        slope = (covariance / first)[:, None]
        deviation = (second - covariance**2 / first).sqrt()[:, None]
        y = draw.normal(theta[:, 1:2] + slope * (x - theta[:, 0:1]), deviation)
        return torch.stack([x, y], dim=2).reshape(-1, 2 * POINTS)

    @abstractmethod
    def informative(self, x: Tensor) -> Tensor:
        """Return the columns of data (n, data) that depend on the parameters, shape (n, 8)."""

    def prepare(self) -> None:
        self.reference()

    def reference(self) -> np.ndarray:
        return self._posterior

    @cached_property
    def _posterior(self) -> np.ndarray:
        points = self.informative(torch.from_numpy(self.observed()[None])).reshape(POINTS, 2)
        centre = points.mean(dim=0)
        scatter = (points - centre).T @ (points - centre)
        prior = self.prior()
        draw = RandomDraws(PROPOSALS, torch.Generator().manual_seed(0))

        def propose() -> Tensor:
            theta, log_weight = _proposals(scatter, draw)
            v, w, c = _covariances(theta[:, 2:])
            noise = [draw.normal(0, POINTS**-0.5) for _ in range(2)]
            theta[:, 0] = centre[0] + v.sqrt() * noise[0]
            theta[:, 1] = centre[1] + c / v.sqrt() * noise[0] + (w - c**2 / v).sqrt() * noise[1]
            taken = draw.uniform(0, 1).log() < log_weight - math.log(HIGHEST)
            return theta[taken & prior.contains(theta)]

        return accepted(propose, self.samples).numpy()


def _proposals(scatter: Tensor, draw: Draws) -> tuple[Tensor, Tensor]:
    """Draw θ₃, θ₄ and θ₅ by way of an inverse Wishart law, and return the logarithm of what it lacks, (n,).

    By Bartlett's decomposition S⁻¹ = A Aᵀ, A = L B, L Lᵀ = W⁻¹, with roots of chi-square numbers of 3 and 2 degrees
    of freedom on the diagonal of B and a normal number below. NaN outside the range of the parameters.
    """
    factor = torch.linalg.cholesky(torch.linalg.inv(scatter))
    b, c, d = draw.gamma(1.5, 0.5).sqrt(), draw.normal(0, 1), draw.gamma(1.0, 0.5).sqrt()
    p, q, r = factor[0, 0] * b, factor[1, 0] * b + factor[1, 1] * c, factor[1, 1] * d
    determinant = 1 / (p * r) ** 2
    v, w, covariance = determinant * (q**2 + r**2), determinant * p**2, -determinant * p * q
    product = (v - JITTER) * (w - JITTER)
    log_weight = 1.5 * determinant.log() - 0.25 * product.log() - (product - covariance**2).log()
    signs = [torch.sign(draw.uniform(-1, 1)) for _ in range(2)]
    shape = [s * (u - JITTER).pow(0.25) for s, u in zip(signs, (v, w), strict=True)]
    angle = torch.atanh(covariance / product.sqrt())
    unknown = torch.zeros_like(angle)
    return torch.stack([unknown, unknown, *shape, angle], dim=1), log_weight


def _covariances(shape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return both variances and the covariance, each (n,), of θ₃, θ₄ and θ₅, (n, 3)."""
    first, second, correlation = shape[:, 0] ** 2, shape[:, 1] ** 2, torch.tanh(shape[:, 2])
    return first**2 + JITTER, second**2 + JITTER, correlation * first * second
