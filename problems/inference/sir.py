"""The spread of an epidemic."""

import math

import torch
from torch import Tensor

from sciml.inference.draws import Draws
from sciml.inference.priors import Prior, log_normal
from sciml.problem import Variable

from ._predation import trajectories
from ._sampled import Sampled

POPULATION = 1e6
TESTED = 1000
TIMES = tuple(17.0 * k for k in range(10))


class SIR(Sampled):
    """Contact and recovery rates of an epidemic, from ten counts of the infected among a thousand people.

    S' = -β S I / N,  I' = β S I / N - γ I,  S(0) = N - 1, I(0) = 1, N = 10⁶,
    x_k ~ Binomial(1000, I(t_k) / N),  t_k = 0, 17, ..., 153 d
    with log β ~ N(log 0.4, 0.5²), log γ ~ N(log 1/8, 0.2²)

    Source: constants and observations of J.-M. Lueckmann et al., Benchmarking simulation-based inference, 2021,
    arXiv 2101.04653.
    """

    parameters = (Variable("beta", "1/d", "contact rate"), Variable("gamma", "1/d", "recovery rate"))
    data = tuple(Variable(f"infected_{k + 1}") for k in range(len(TIMES)))

    def prior(self) -> Prior:
        return log_normal((math.log(0.4), math.log(1 / 8)), (0.5, 0.2))

    def infected(self, theta: Tensor) -> Tensor:
        """Return I/N at the times of the counts, shape (n, 10)."""
        contact, recovery = theta.T
        rates = torch.stack([torch.zeros_like(contact), -contact / POPULATION, -recovery, contact / POPULATION], dim=1)
        return trajectories(rates, (POPULATION - 1, 1.0), TIMES)[:, :, 1] / POPULATION

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return draw.binomial(float(TESTED), self.infected(theta).clamp(0, 1))
