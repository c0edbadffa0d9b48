"""A normal mean under a uniform prior."""

import numpy as np
from scipy.stats import truncnorm

from sciml.inference.priors import Prior, box

from ._gaussian import SIZE, VARIANCE, GaussianMean


class GaussianLinearUniform(GaussianMean):
    """The mean of a normal law in ten dimensions; its posterior is cut off at the edges of the prior.

    x ~ N(θ, 0.1 I),  θ ~ U(-1, 1)¹⁰; the posterior is N(x, 0.1 I) inside the prior.

    Source: J.-M. Lueckmann et al., Benchmarking simulation-based inference, 2021, arXiv 2101.04653.
    """

    def prior(self) -> Prior:
        return box((-1,) * SIZE, (1,) * SIZE)

    def reference(self) -> np.ndarray:
        x, deviation = self.observed(), VARIANCE**0.5
        law = truncnorm((-1 - x) / deviation, (1 - x) / deviation, x, deviation)
        return law.rvs((self.samples, SIZE), random_state=np.random.default_rng(0))
