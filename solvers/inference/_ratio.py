"""Posteriors from a learnt ratio of likelihoods."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn

from sciml.inference.resampling import by_observation, effective_size
from sciml.inference.scales import DataScale
from sciml.inference.simulations import Simulations
from sciml.inference.tempering import temper
from sciml.neural import NeuralSolver
from sciml.solution import Posterior
from sciml.views.simulator import Simulator

QUADRATURE = 2**15
"""Quasi-random points of the prior over which posterior means and constants are taken."""
PARTICLES = 1000
"""Particles that sample a posterior at least."""
MOVES = 5
"""Metropolis sweeps at each temperature."""


class RatioSolver(NeuralSolver[Simulator]):
    """A network f(θ, x) = log p(x|θ) + c(x), and so p(θ|x) ∝ p(θ) e^f.

    Samples are particles of tempered sequential Monte Carlo, which starts all over the prior and so finds every mode.
    """

    needs = Simulator
    simulations: int
    theta_mean: Tensor
    theta_scale: Tensor

    @abstractmethod
    def log_ratio(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return f(θ, x) for parameters (n, parameters) and data (data,), shape (n,)."""

    def build(self, problem: Simulator) -> None:
        self.problem = problem
        mean, deviation = problem.prior().moments
        self.register_buffer("theta_mean", mean.to(self.real))
        self.register_buffer("theta_scale", deviation.to(self.real))
        self.scale = DataScale(len(problem.data), self.real)
        self.constant = by_observation(self._constant)

    @cached_property
    def simulated(self) -> Simulations:
        """What the network learns from, made on first use."""
        return self.problem.simulations(self.simulations, self.seed)

    def findings(self, batch: Mapping[str, Tensor]) -> Mapping[str, float | str]:
        return self.simulated.notes(self.problem.observed())

    def standard(self, theta: Tensor) -> Tensor:
        """Return parameters in deviations from their means."""
        return (theta - self.theta_mean) / self.theta_scale

    @torch.no_grad()
    def log_weights(self, theta: Tensor, observation: np.ndarray) -> Tensor:
        """Return f at each row of (n, parameters) given one observation, (n,) in float64 on the CPU."""
        x = torch.as_tensor(observation, dtype=self.real, device=self.theta_mean.device)
        blocks = [self.log_ratio(part.to(x), x) for part in theta.split(2**14)]
        return torch.cat(blocks).double().cpu()

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        points = self.quadrature()

        def means(observations: np.ndarray) -> np.ndarray:
            weights = [torch.softmax(self.log_weights(points, x), dim=0) for x in observations]
            return np.array([(w @ points).numpy() for w in weights]).reshape(-1, points.shape[1])

        return means

    def quadrature(self) -> Tensor:
        """Return the points over which posterior means are taken, shape (points, parameters), float64."""
        return self.problem.prior().quasirandom(QUADRATURE)

    def _constant(self, observation: np.ndarray) -> float:
        """Return log ∫ p(θ) e^f(θ, x) dθ."""
        return float(self.log_weights(self.quadrature(), observation).logsumexp(0)) - np.log(QUADRATURE)

    def solution(self, problem: Simulator, notes: Mapping[str, float | str] | None = None) -> Posterior:
        plain, prior = super().solution(problem), problem.prior()
        said: dict[str, float | str] = {"simulator_calls": self.simulations}
        if notes is not None:
            size = effective_size(self.log_weights(self.quadrature(), problem.observed()))
            said |= {**notes, "effective_fraction": size / QUADRATURE}

        def sampler(count: int, observation: np.ndarray, seed: int) -> np.ndarray:
            generator, particles = torch.Generator().manual_seed(seed), max(count, PARTICLES)
            found = temper(prior, lambda theta: self.log_weights(theta, observation), particles, generator, MOVES)
            return found.theta[torch.randperm(particles, generator=generator)[:count]].numpy()

        def density(theta: np.ndarray, observation: np.ndarray) -> np.ndarray:
            points = torch.from_numpy(theta)
            logs = prior.log_prob(points) + self.log_weights(points, observation)
            return logs.numpy() - self.constant(observation)

        return Posterior(problem, plain.function, plain.state, said, sampler=sampler, density=density)


class RatioNetworks(nn.Module):
    """Several f(θ, x) at a time: both embedded linearly and added, residual blocks, a linear read-out; SiLU throughout.

    Args:
        members: networks, which share nothing.
        parameters, data: sizes of θ and of x.
        width: units of a layer.
        blocks: residual blocks of two layers each.
        real: dtype.
    """

    def __init__(self, members: int, parameters: int, data: int, width: int, blocks: int, real: torch.dtype) -> None:
        super().__init__()
        linear = partial(Linears, members, real=real)
        self.embed_theta = linear(parameters, width)
        self.embed_x = linear(data, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), linear(width, width), nn.SiLU(), linear(width, width)) for _ in range(blocks)
        )
        self.read = nn.Sequential(nn.SiLU(), linear(width, 1))

    def forward(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return f of (members, ..., parameters) and (members, ..., data), which broadcast, shape (members, ...)."""
        x = x.reshape(len(x), *[1] * (theta.ndim - x.ndim), *x.shape[1:])
        hidden = self.embed_theta(theta) + self.embed_x(x)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.read(hidden)[..., 0]


class Linears(nn.Module):
    """Linear layers of several networks, (members, ..., inputs) to (members, ..., outputs), with torch's first weights.

    Args:
        members: networks.
        inputs, outputs: sizes.
        real: dtype.
    """

    def __init__(self, members: int, inputs: int, outputs: int, real: torch.dtype) -> None:
        super().__init__()
        layers = [nn.Linear(inputs, outputs, dtype=real) for _ in range(members)]
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach()[None] for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x.flatten(1, -2), self.weight).unflatten(1, x.shape[1:-1])
