"""Spikes of a neuron under a known stimulus, and the posterior of its filter."""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from sciml.inference.draws import Draws
from sciml.inference.priors import Prior, gaussian
from sciml.inference.resampling import StudentT, importance_resample
from sciml.problem import Variable

from ._published import Published

SIZE = 10
BINS = 100
NEWTON_STEPS = 20


class Spikes(Published):
    """In each of 100 bins a neuron fires or not, by a logistic model of the stimulus; its filter is smooth.

    z_i ~ Bernoulli(σ(v_i · θ)),  θ ~ N(0, B),  B⁻¹ = diag(1/2, FᵀF)

    with the design matrix V of ones and the last nine stimuli, F = D² + diag(√(i/9)) and D the difference of
    neighbours. The log posterior θ·Vᵀz - Σ_i log(1 + exp(v_i·θ)) - θᵀB⁻¹θ/2 is concave: the reference resamples, none
    twice, draws of a Student t law about its mode with the covariance there, by importance.
    """

    parameters = tuple(Variable(n) for n in ("offset", *(f"filter_{k}" for k in range(1, SIZE))))

    @cached_property
    def design(self) -> Tensor:
        """V, shape (100, 10)."""
        return torch.from_numpy(self.published("design_matrix", "bernoulli_glm"))

    def precision(self) -> Tensor:
        """Return B⁻¹, shape (10, 10)."""
        size = SIZE - 1
        one = torch.eye(size, dtype=torch.float64)
        difference = one - one.roll(1, dims=0).tril()
        rough = difference @ difference + torch.diag(torch.arange(size, dtype=torch.float64) / size).sqrt()
        return torch.block_diag(torch.tensor([[0.5]], dtype=torch.float64), rough.T @ rough)

    def prior(self) -> Prior:
        return gaussian(self.precision())

    def spikes(self, theta: Tensor, draw: Draws) -> Tensor:
        """Draw the spikes, shape (n, 100)."""
        return draw.bernoulli(torch.sigmoid(theta @ self.design.to(theta).T))

    def statistic_log_likelihood(self, theta: Tensor, statistic: Tensor) -> Tensor:
        """Return log p(z|θ), shape (n,), of sufficient statistics Vᵀz, shape (n, 10)."""
        return (theta * statistic).sum(dim=1) - softplus(theta @ self.design.T).sum(dim=1)

    def sample_posterior(self, statistic: Tensor) -> np.ndarray:
        """Return posterior samples given Vᵀz, shape (samples, 10)."""
        precision, mode = self.precision(), torch.zeros(SIZE, dtype=torch.float64)
        for _ in range(NEWTON_STEPS):
            rate, curvature = torch.sigmoid(self.design @ mode), self._curvature(mode)
            mode = mode + torch.linalg.solve(curvature, statistic - self.design.T @ rate - precision @ mode)
        proposal, prior = StudentT(mode, torch.linalg.inv(self._curvature(mode)), 10.0), self.prior()

        def log_weight(theta: Tensor) -> Tensor:
            return self.statistic_log_likelihood(theta, statistic) + prior.log_prob(theta) - proposal.log_prob(theta)

        return importance_resample(proposal, log_weight, self.samples, torch.Generator().manual_seed(0)).numpy()

    def _curvature(self, theta: Tensor) -> Tensor:
        """Return minus the second derivatives of the log posterior, shape (10, 10)."""
        rate = torch.sigmoid(self.design @ theta)
        return self.precision() + self.design.T @ ((rate * (1 - rate))[:, None] * self.design)
