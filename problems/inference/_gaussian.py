"""A normal mean in ten dimensions, whatever the prior."""

from torch import Tensor

from sciml.inference.draws import Draws
from sciml.problem import Variable

from ._published import Published

SIZE = 10
VARIANCE = 0.1


class GaussianMean(Published):
    """The mean of a normal law in ten dimensions, ``x ~ N(θ, 0.1 I)``."""

    parameters = tuple(Variable(f"theta_{k}") for k in range(1, SIZE + 1))
    data = tuple(Variable(f"x_{k}") for k in range(1, SIZE + 1))

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return draw.normal(theta, VARIANCE**0.5)
