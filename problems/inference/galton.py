"""A board of nails, and what its slots say of the nails."""

import math
from typing import Annotated

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor

from sciml.inference.draws import Draws, RandomDraws
from sciml.inference.priors import Prior, box
from sciml.parameters import Count, Several
from sciml.problem import Variable
from sciml.views.simulator import Simulator

NAILS = 31
NODES = 20_001


class Galton(Simulator):
    """A ball falls through rows of nails, each of which turns it by a law of its place; the slot is seen.

    p_left(θ) = (1 - sin πv)/2 + sin(πv) σ(10 θ h),  v = row/(rows - 1) in [0, 1],  h = 2 nail/30 - 1 in [-1, 1]

    The nails of odd rows stand half a place to the left, so in even rows a ball goes to its own number or the next,
    in odd rows to the one before or its own. It starts at nail 15. The way z of a ball is latent, 2^rows of them;
    p(x|θ) follows row by row: P_(k+1) = P_k with each nail's mass split in two. The reference posterior inverts
    the distribution function of p(θ) p(x|θ) on a fine grid.
    Source: J. Brehmer et al., Mining gold from implicit models to improve likelihood-free inference, 2018,
    arXiv 1805.12244, whose board has 20 rows and 31 nails; the prior and the observations are ours.

    Args:
        observation: which of ten fixed observations is scored; its parameter is drawn from the prior.
        samples: posterior samples to compare with as many of the reference.
        rows: of nails.
        balls: seen together, each with its own column of data.
    """

    parameters = (Variable("theta"),)

    def __init__(
        self,
        observation: Annotated[int, Interval(ge=1, le=10)] = 1,
        samples: Several = 10_000,
        rows: Annotated[int, Interval(ge=2, le=30)] = 20,
        balls: Count = 1,
    ) -> None:
        self.observation = observation
        self.samples = samples
        self.rows = rows
        self.balls = balls

    @property
    def data(self) -> tuple[Variable, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return tuple(Variable(f"slot_{k}") for k in range(1, self.balls + 1))

    def prior(self) -> Prior:
        return box((-1.0,), (1.0,))

    def left(self, theta: Tensor, nail: Tensor, row: int) -> Tensor:
        """Return the probability of turning left, of parameters and nails whose shapes broadcast."""
        share = math.sin(math.pi * row / (self.rows - 1))
        return (1 - share) / 2 + share * torch.sigmoid(10 * theta * (2 * nail / (NAILS - 1) - 1))

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        nail = theta.new_full((len(theta), self.balls), NAILS // 2)
        for row in range(self.rows):
            nail = nail + 1 - draw.bernoulli(self.left(theta, nail, row)) - row % 2
        return nail

    def slots(self, theta: Tensor) -> Tensor:
        """Return the probability of each slot, shape (n, 31), exactly."""
        nails = torch.arange(NAILS, dtype=theta.dtype)
        mass = theta.new_zeros(len(theta), NAILS).index_fill(1, torch.tensor([NAILS // 2]), 1.0)
        for row in range(self.rows):
            left = mass * self.left(theta, nails, row)
            right = mass - left
            mass = left + right.roll(1, dims=1) if row % 2 == 0 else left.roll(-1, dims=1) + right
        return mass

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        return self.slots(theta).gather(1, x.long()).log().sum(dim=1)

    def observed(self) -> np.ndarray:
        generator = torch.Generator().manual_seed(self.observation)
        return self.simulate(self.prior().sample(1, generator), RandomDraws(1, generator))[0].numpy()

    def reference(self) -> np.ndarray:
        prior, x = self.prior(), torch.from_numpy(self.observed()[None])
        edges = prior.quantile(torch.linspace(0, 1, NODES, dtype=torch.float64)[:, None])
        middles = (edges[1:] + edges[:-1]) / 2
        logs = self.log_likelihood(middles, x.expand(len(middles), -1)) + prior.log_prob(middles)
        mass = torch.softmax(logs, dim=0).cumsum(0).numpy()
        unit = np.random.default_rng(0).random(self.samples)
        return np.interp(unit, np.concatenate([[0], mass]), edges[:, 0].numpy())[:, None]
