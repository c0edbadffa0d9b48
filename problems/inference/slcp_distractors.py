"""SLCP among data that say nothing."""

from functools import cached_property

import torch
from torch import Tensor

from sciml.inference.draws import Draws
from sciml.inference.tape import log_likelihood
from sciml.problem import Variable

from ._slcp import POINTS, FourPoints

DISTRACTORS = 92


class SLCPDistractors(FourPoints):
    """The four points of slcp hidden among 92 numbers that do not depend on the parameters.

    x = permutation of (four points, e),  e ~ mixture of 20 Student t laws with 2 degrees of freedom

    The posterior is that of slcp. Source: constants and observations of J.-M. Lueckmann et al., Benchmarking
    simulation-based inference, 2021, arXiv 2101.04653.
    """

    data = tuple(Variable(f"x_{i}") for i in range(1, 2 * POINTS + DISTRACTORS + 1))

    @cached_property
    def _mixture(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        names = ("mixture_weights", "student_t_df", "student_t_loc", "student_t_scale_tril")
        weights, degrees, centres, scales = (self.constant(name) for name in names)
        return weights / weights.sum(), degrees, centres, scales

    @cached_property
    def _order(self) -> Tensor:
        return self.constant("permutation").long()

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        x = torch.cat([self.points(theta, draw), self._distractors(theta, draw)], dim=1)
        return x[:, self._order]

    def _distractors(self, theta: Tensor, draw: Draws) -> Tensor:
        weights, degrees, centres, scales = (part.to(theta) for part in self._mixture)
        component = draw.categorical(weights)
        widening = torch.rsqrt(draw.gamma(degrees[component] / 2, degrees[component] / 2))
        standard = draw.normal(torch.zeros(len(theta), DISTRACTORS).to(theta), 1.0) * widening[:, None]
        out = torch.empty_like(standard)
        for k in component.unique():
            rows = component == k
            out[rows] = centres[k] + standard[rows] @ scales[k].T
        return out

    def informative(self, x: Tensor) -> Tensor:
        return x[:, self._order.argsort()[: 2 * POINTS]]

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return the log density of the four points alone, shape (n,); the distractors' depends on x alone."""
        points = self.informative(x).reshape(-1, POINTS, 2)
        return log_likelihood(self.points, [points[:, :, 0], points[:, :, 1]], theta)
