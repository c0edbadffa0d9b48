"""A normal mean under a uniform prior."""

import numpy as np
from scipy.stats import truncnorm
from torch import Tensor

from sciml.inference.draws import Draws
from sciml.inference.priors import Prior, box
from sciml.problem import Variable

from ._published import Published

SIZE = 10
VARIANCE = 0.1


class GaussianLinearUniform(Published):
    """The mean of a normal law in ten dimensions; its posterior is cut off at the edges of the prior.

    x ~ N(θ, 0.1 I),  θ ~ U(-1, 1)¹⁰; the posterior is N(x, 0.1 I) inside the prior.

    Source: J.-M. Lueckmann et al., Benchmarking simulation-based inference, 2021, arXiv 2101.04653.
    """

    parameters = tuple(Variable(f"theta_{k}") for k in range(1, SIZE + 1))
    data = tuple(Variable(f"x_{k}") for k in range(1, SIZE + 1))

    def prior(self) -> Prior:
        return box((-1,) * SIZE, (1,) * SIZE)

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return draw.normal(theta, VARIANCE**0.5)

    def reference(self) -> np.ndarray:
        x, deviation = self.observed(), VARIANCE**0.5
        law = truncnorm((-1 - x) / deviation, (1 - x) / deviation, x, deviation)
        return law.rvs((self.samples, SIZE), random_state=np.random.default_rng(0))
