"""A normal mean under a normal prior."""

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from sciml.inference.draws import Draws
from sciml.inference.priors import Prior
from sciml.problem import Variable

from ._published import Published

SIZE = 10
VARIANCE = 0.1


class GaussianLinear(Published):
    """The mean of a normal law in ten dimensions, conjugate to its prior.

    x ~ N(θ, 0.1 I),  θ ~ N(0, 0.1 I); the posterior is N(x/2, 0.05 I).

    Source: J.-M. Lueckmann et al., Benchmarking simulation-based inference, 2021, arXiv 2101.04653.
    """

    parameters = tuple(Variable(f"theta_{k}") for k in range(1, SIZE + 1))
    data = tuple(Variable(f"x_{k}") for k in range(1, SIZE + 1))

    def prior(self) -> Prior:
        return Prior([Normal(torch.zeros((), dtype=torch.float64), VARIANCE**0.5)] * SIZE)

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return draw.normal(theta, VARIANCE**0.5)

    def reference(self) -> np.ndarray:
        noise = np.random.default_rng(0).normal(size=(self.samples, SIZE))
        return self.observed() / 2 + (VARIANCE / 2) ** 0.5 * noise
