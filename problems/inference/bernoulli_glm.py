"""A Bernoulli generalised linear model, seen by its sufficient statistics."""

import numpy as np
import torch
from torch import Tensor

from sciml.inference.draws import Draws
from sciml.problem import Variable

from ._spikes import SIZE, Spikes


class BernoulliGLM(Spikes):
    """The filter of a neuron from its spikes, of which the sufficient statistics Vᵀz are seen.

    z_i ~ Bernoulli(σ(v_i · θ)), x = Vᵀz, with a smoothing normal prior.

    Sources: P. J. Gonçalves et al., Training deep neural density estimators to identify mechanistic models of
    neural dynamics, eLife 9, 2020; constants and observations of J.-M. Lueckmann et al., Benchmarking
    simulation-based inference, 2021, arXiv 2101.04653.
    """

    data = tuple(Variable(n) for n in ("spikes", *(f"triggered_average_{k}" for k in range(1, SIZE))))

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return self.spikes(theta, draw) @ self.design.to(theta)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        return self.statistic_log_likelihood(theta, x)

    def reference(self) -> np.ndarray:
        return self.sample_posterior(torch.from_numpy(self.observed()))
