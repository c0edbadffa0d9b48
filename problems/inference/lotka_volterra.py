"""Predators and their prey."""

from torch import Tensor

from sciml.inference.draws import Draws
from sciml.inference.priors import Prior, log_normal
from sciml.problem import Variable

from ._predation import trajectories
from ._sampled import Sampled

TIMES = tuple(2.1 * k for k in range(10))


class LotkaVolterra(Sampled):
    """Four rates of two populations, from ten noisy counts of each.

    X' = α X - β X Y,  Y' = -γ Y + δ X Y,  X(0) = 30, Y(0) = 1,
    log x_k ~ N(log X(t_k), 0.1²), log y_k ~ N(log Y(t_k), 0.1²),  t_k = 0, 2.1, ..., 18.9
    with log α, log γ ~ N(-0.125, 0.5²), log β, log δ ~ N(-3, 0.5²)

    Source: constants and observations of J.-M. Lueckmann et al., Benchmarking simulation-based inference, 2021,
    arXiv 2101.04653.
    """

    parameters = tuple(Variable(n) for n in ("alpha", "beta", "gamma", "delta"))
    data = tuple(Variable(f"{kind}_{k + 1}") for kind in ("prey", "predators") for k in range(len(TIMES)))

    def prior(self) -> Prior:
        return log_normal((-0.125, -3, -0.125, -3), (0.5,) * 4)

    def populations(self, theta: Tensor) -> Tensor:
        """Return prey and predators at the times of the counts, shape (n, 10, 2)."""
        signs = theta.new_tensor([1, -1, -1, 1])
        return trajectories(theta * signs, (30.0, 1.0), TIMES)

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        sizes = self.populations(theta).clamp(1e-10, 1e4)
        return draw.log_normal(sizes.log(), 0.1).mT.reshape(len(theta), -1)
