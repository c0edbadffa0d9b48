"""The common mean of two normal laws, one broad and one narrow."""

import numpy as np
import torch
from torch import Tensor

from sciml.inference.draws import Draws, RandomDraws
from sciml.inference.laws import Normal
from sciml.inference.priors import Prior, box
from sciml.inference.resampling import accepted
from sciml.problem import Variable

from ._published import Published

DEVIATIONS = torch.tensor([1.0, 0.1], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 0.5], dtype=torch.float64)


class GaussianMixture(Published):
    """A datum comes from the broad or the narrow law, which one is not seen.

    x ~ ½ N(θ, I) + ½ N(θ, 0.01 I),  θ ~ U(-10, 10)²; the posterior is the same mixture about x inside the prior.

    Each simulation draws its own component, as in the corrected task of the benchmark.
    Sources: S. A. Sisson et al., Sequential Monte Carlo without likelihoods, PNAS 104, 2007; constants and
    observations of J.-M. Lueckmann et al., Benchmarking simulation-based inference, 2021, arXiv 2101.04653.
    """

    parameters = (Variable("theta_1"), Variable("theta_2"))
    data = (Variable("x_1"), Variable("x_2"))

    def prior(self) -> Prior:
        return box((-10, -10), (10, 10))

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        deviation = DEVIATIONS.to(theta)[draw.categorical(WEIGHTS.to(theta))]
        return draw.normal(theta, deviation[:, None])

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        parts = [
            Normal(theta, float(s)).log_prob(x).sum(dim=1) + w.log() for s, w in zip(DEVIATIONS, WEIGHTS, strict=True)
        ]
        return torch.logaddexp(*parts)

    def reference(self) -> np.ndarray:
        x, prior = torch.from_numpy(self.observed()), self.prior()
        draw = RandomDraws(self.samples, torch.Generator().manual_seed(0))

        def propose() -> Tensor:
            theta = self.simulate(x.expand(self.samples, 2), draw)
            return theta[prior.contains(theta)]

        return accepted(propose, self.samples).numpy()
