"""A small parton shower."""

import torch
from torch import Tensor

from sciml.inference.draws import Draws
from sciml.inference.priors import Prior, box
from sciml.problem import Variable

from ._observed import Observed
from ._shower import GENERATIONS, LEAVES, log_density, shower

BLOCK = 256
"""Rows whose histories are summed together; more leave the processor's cache."""


class Jets(Observed):
    """How fast masses fall along a shower, from the momenta of the partons it ends with.

    A parton of m² = t splits in two, of l t and r t,
    p(l) = λ e^(-λ l) / (1 - e^(-λ)),  0 < l < 1,  and r / (1 - √l)² by the same law,
    into a direction that is uniform where it rests. One below 25 GeV², or of the third generation, is stable.
    The first has a mass of 80 GeV and a momentum of 400 GeV; λ is λ_1 for it and λ_2 for all others, both U(0.5, 8).

    Given the tree of splittings the density is known; given the partons it is a sum over all trees that may have led
    to them, which three generations keep short enough to be exact. The simulators' tape has the tree.
    Source: the model Ginkgo of K. Cranmer, M. Drnevich, S. Macaluso, D. Pappadopulo, Reframing jet physics with new
    computational methods, 2021, arXiv 2105.10512, which goes on until all partons are stable; the end after three
    generations, the prior and the observations are ours.

    Args:
        observation: which of ten observations is scored.
        samples: posterior samples to compare with as many of the reference.
    """

    checksum = "fd039b12483e8ff56b9090fe13ccf40daa347d987135d238ee0a149a74b9a1d7"
    parameters = (Variable("rate_1"), Variable("rate_2"))
    data = tuple(Variable(f"{q}_{k}", "GeV") for k in range(1, LEAVES + 1) for q in ("E", "px", "py", "pz"))

    def prior(self) -> Prior:
        return box((0.5, 0.5), (8, 8))

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return shower(_rates(theta), draw).flatten(1)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        rows = zip(_rates(theta).split(BLOCK), x.to(theta).unflatten(1, (LEAVES, 4)).split(BLOCK), strict=True)
        return torch.cat([log_density(*part) for part in rows])


def _rates(theta: Tensor) -> Tensor:
    """Return the rate of each generation, shape (n, generations)."""
    return torch.cat([theta[:, :1], theta[:, 1:].expand(-1, GENERATIONS - 1)], dim=1)
