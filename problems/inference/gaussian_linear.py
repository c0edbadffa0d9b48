"""A normal mean under a normal prior."""

import numpy as np
import torch
from torch.distributions import Normal

from sciml.inference.priors import Prior

from ._gaussian import SIZE, VARIANCE, GaussianMean


class GaussianLinear(GaussianMean):
    """The mean of a normal law in ten dimensions, conjugate to its prior.

    x ~ N(θ, 0.1 I),  θ ~ N(0, 0.1 I); the posterior is N(x/2, 0.05 I).

    Source: J.-M. Lueckmann et al., Benchmarking simulation-based inference, 2021, arXiv 2101.04653.
    """

    def prior(self) -> Prior:
        return Prior([Normal(torch.zeros((), dtype=torch.float64), VARIANCE**0.5)] * SIZE)

    def reference(self) -> np.ndarray:
        noise = np.random.default_rng(0).normal(size=(self.samples, SIZE))
        return self.observed() / 2 + (VARIANCE / 2) ** 0.5 * noise
