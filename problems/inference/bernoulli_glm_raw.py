"""A Bernoulli generalised linear model, seen by every spike."""

import numpy as np
import torch
from torch import Tensor

from sciml.inference.draws import Draws
from sciml.problem import Variable

from ._spikes import BINS, Spikes


class BernoulliGLMRaw(Spikes):
    """The filter of a neuron from its spikes in 100 bins, each of which is seen.

    x_i ~ Bernoulli(σ(v_i · θ)), with a smoothing normal prior.

    Sources: P. J. Gonçalves et al., Training deep neural density estimators to identify mechanistic models of
    neural dynamics, eLife 9, 2020; constants and observations of J.-M. Lueckmann et al., Benchmarking
    simulation-based inference, 2021, arXiv 2101.04653.
    """

    data = tuple(Variable(f"spike_{i}") for i in range(1, BINS + 1))

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return self.spikes(theta, draw)

    def reference(self) -> np.ndarray:
        return self.sample_posterior(self.design.T @ torch.from_numpy(self.observed()))
