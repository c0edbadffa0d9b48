"""SLCP: a simple likelihood, a complex posterior."""

from torch import Tensor

from sciml.inference.draws import Draws
from sciml.problem import Variable

from ._slcp import POINTS, FourPoints


class SLCP(FourPoints):
    """Four points of a normal law in the plane; squares and signs give its posterior four symmetric modes.

    x_i ~ N(m, S),  m = (θ₁, θ₂),  S = [[s₁², ρ s₁ s₂], [ρ s₁ s₂, s₂²]],
    s₁ = θ₃², s₂ = θ₄², ρ = tanh θ₅,  θ ~ U(-3, 3)⁵

    Sources: G. Papamakarios et al., Sequential neural likelihood, 2019, arXiv 1805.07226; constants and
    observations of J.-M. Lueckmann et al., Benchmarking simulation-based inference, 2021, arXiv 2101.04653.
    """

    data = tuple(Variable(f"{axis}_{i}") for i in range(1, POINTS + 1) for axis in "xy")

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return self.points(theta, draw)

    def informative(self, x: Tensor) -> Tensor:
        return x
