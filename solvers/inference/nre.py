"""Neural ratio estimation."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from sciml.inference.resampling import effective_size, importance_resample
from sciml.neural import NeuralSolver, Phase
from sciml.parameters import Count, Positive
from sciml.solution import Posterior
from sciml.views.simulator import Simulator

QUADRATURE = 2**15
"""Quasi-random points of the prior over which posterior means are taken."""


class NRE(NeuralSolver[Simulator]):
    """A classifier learns the likelihood-to-evidence ratio, and so the posterior given any data.

    min over f of  E_{p(θ,x)} log(1 + e^{-f(θ,x)}) + E_{p(θ)p(x)} log(1 + e^{f(θ,x)})  is reached at
    f = log p(x|θ)/p(x), hence p(θ|x) = p(θ) e^{f(θ,x)}. All simulations are made before training; a pair of
    the product of marginals takes its θ from another simulation. Samples are drawn by sampling importance
    resampling of the prior, which in few parameters finds every mode and needs no convergence of a chain.
    Sources: K. Cranmer et al., Approximating likelihood ratios with calibrated discriminative classifiers,
    2015, arXiv 1506.02169; J. Hermans et al., Likelihood-free MCMC with amortized approximate ratio
    estimators, 2020, arXiv 1903.04057.

    Args:
        simulations: simulator calls, made once.
        width: units of a layer.
        blocks: residual blocks of two layers each.
        contrast: pairs of the product of marginals for each joint pair of a batch.
        batch: joint pairs of a batch.
        steps: Adam steps; the learning rate falls to a thousandth along a cosine.
        learning_rate: of the first step.
    """

    needs = Simulator
    theta_mean: Tensor
    theta_scale: Tensor
    x_mean: Tensor
    x_scale: Tensor

    def __init__(
        self,
        simulations: Count = 10_000,
        width: Count = 64,
        blocks: Count = 3,
        contrast: Count = 4,
        batch: Count = 256,
        steps: Count = 5000,
        learning_rate: Positive = 1e-3,
    ) -> None:
        super().__init__()
        self.simulations = simulations
        self.width = width
        self.blocks = blocks
        self.contrast = contrast
        self.batch = batch
        self.steps = steps
        self.learning_rate = learning_rate

    def build(self, problem: Simulator) -> None:
        self.problem = problem
        self.simulation_seed = int(torch.randint(2**62, ()))
        self.pairs: tuple[Tensor, Tensor] | None = None
        mean, deviation = problem.prior().moments
        self.register_buffer("theta_mean", mean.to(self.real))
        self.register_buffer("theta_scale", deviation.to(self.real))
        self.register_buffer("x_mean", torch.zeros(len(problem.data), dtype=self.real))
        self.register_buffer("x_scale", torch.ones(len(problem.data), dtype=self.real))
        sizes = len(problem.parameters), len(problem.data), self.width, self.blocks
        self.network = RatioNetwork(*sizes, self.real)

    def schedule(self) -> tuple[Phase, ...]:
        return (Phase("adam", self.steps, self.learning_rate, decay=1e-3),)

    def simulated(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the training pairs, (simulations, parameters) and (simulations, data), made on first use."""
        if self.pairs is None:
            generator = torch.Generator().manual_seed(self.simulation_seed)
            theta, x = self.problem.joint(self.simulations, generator)
            self.x_mean.copy_(x.mean(dim=0))
            deviation = x.std(dim=0, correction=0)
            self.x_scale.copy_(torch.where(deviation > 0, deviation, 1))
            self.pairs = theta.to(device, self.real), x.to(device, self.real)
        return self.pairs

    def sample(self, generator: torch.Generator) -> dict[str, Tensor]:
        theta, x = self.simulated(generator.device)
        shape = (self.batch, 1 + self.contrast)
        rows = torch.randint(len(x), shape, generator=generator, device=generator.device)
        return {"theta": theta[rows], "x": x[rows[:, :1]]}

    def losses(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        f = self.log_ratio(batch["theta"], batch["x"])
        return {"joint": softplus(-f[:, 0]).mean(), "marginal": softplus(f[:, 1:]).mean()}

    def log_ratio(self, theta: Tensor, x: Tensor) -> Tensor:
        """Return f(θ, x) for (..., parameters) and (..., data), whose leading dimensions broadcast."""
        theta, x = (theta - self.theta_mean) / self.theta_scale, (x - self.x_mean) / self.x_scale
        return self.network(theta, x)

    @torch.no_grad()
    def log_weights(self, theta: Tensor, observation: np.ndarray) -> Tensor:
        """Return f at each row of (n, parameters) given one observation, (n,) in float64 on the CPU."""
        x = torch.as_tensor(observation, dtype=self.real, device=self.x_mean.device)
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
        prior = self.problem.prior()
        unit = torch.quasirandom.SobolEngine(len(prior.marginals), scramble=True, seed=0).draw(QUADRATURE)
        return prior.quantile(unit.double())

    def solution(self, problem: Simulator, notes: Mapping[str, float | str] | None = None) -> Posterior:
        plain, prior = super().solution(problem), problem.prior()
        said: dict[str, float | str] = {"simulator_calls": self.simulations}
        if notes is not None:
            size = effective_size(self.log_weights(self.quadrature(), problem.observed()))
            said |= {**notes, "effective_fraction": size / QUADRATURE}

        def sampler(count: int, observation: np.ndarray, seed: int) -> np.ndarray:
            generator = torch.Generator().manual_seed(seed)
            return importance_resample(prior, lambda t: self.log_weights(t, observation), count, generator).numpy()

        return Posterior(problem, plain.function, plain.state, said, sampler=sampler)


class RatioNetwork(nn.Module):
    """f(θ, x): both embedded linearly and added, residual blocks, a linear read-out; SiLU throughout.

    Args:
        parameters, data: sizes of θ and of x.
        width: units of a layer.
        blocks: residual blocks of two layers each.
        real: dtype.
    """

    def __init__(self, parameters: int, data: int, width: int, blocks: int, real: torch.dtype) -> None:
        super().__init__()
        linear = partial(nn.Linear, dtype=real)
        self.embed_theta = linear(parameters, width)
        self.embed_x = linear(data, width, bias=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), linear(width, width), nn.SiLU(), linear(width, width)) for _ in range(blocks)
        )
        self.read = nn.Sequential(nn.SiLU(), linear(width, 1))

    def forward(self, theta: Tensor, x: Tensor) -> Tensor:
        hidden = self.embed_theta(theta) + self.embed_x(x)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.read(hidden)[..., 0]
