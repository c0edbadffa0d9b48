"""Two moons: a posterior of two crescents."""

import math
from typing import Annotated

import h5py
import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor

from sciml.inference.draws import Draws, RandomDraws
from sciml.inference.priors import Prior, box
from sciml.problem import Variable
from sciml.references import reference_file
from sciml.views.simulator import Simulator

OBSERVATIONS = ("two_moons.h5", "8d8e55d7dc6dc8886d9d767ccfb736ba1a51efc8d5b66d9255b7ee3722223ab1")


class TwoMoons(Simulator):
    """Each observation could come from either of two crescents of parameters.

    x = (r cos a + 1/4, r sin a) + (-|θ₁ + θ₂|, θ₂ - θ₁) / √2
    with a ~ U(-π/2, π/2), r ~ N(0.1, 0.01²), θ ~ U(-1, 1)²

    The reference is sampled exactly. Rotated by 45 degrees, s = (θ₁ + θ₂)/√2 and d = (θ₂ - θ₁)/√2, the data
    are x = p + (-|s|, d), where p is the noise alone. Given x and the sign of s, θ -> p is an isometry onto
    the half plane p₁ >= x₁, so p(θ|x) is the density of the noise at p, cut off at the edges of the prior:
    draw the noise, drop p₁ < x₁, take |s| = p₁ - x₁ with either sign equally likely, d = x₂ - p₂,
    and drop θ outside.
    Sources: D. Greenberg et al., Automatic posterior transformation for likelihood-free inference, 2019,
    arXiv 1905.07488; constants and observations of J.-M. Lueckmann et al., Benchmarking simulation-based
    inference, 2021, arXiv 2101.04653.

    Args:
        observation: which of the ten published observations is scored.
        samples: posterior samples to compare with as many of the reference; 10 000 as published.
    """

    parameters = (Variable("theta_1"), Variable("theta_2"))
    data = (Variable("x_1"), Variable("x_2"))

    def __init__(
        self,
        observation: Annotated[int, Interval(ge=1, le=10)] = 1,
        samples: Annotated[int, Ge(10)] = 10_000,
    ) -> None:
        self.observation = observation
        self.samples = samples

    def prior(self) -> Prior:
        return box((-1, -1), (1, 1))

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        angle = draw.uniform(-math.pi / 2, math.pi / 2)
        radius = draw.normal(0.1, 0.01)
        total, difference = (
            (theta[:, 0] + theta[:, 1]) / math.sqrt(2),
            (theta[:, 1] - theta[:, 0]) / math.sqrt(2),
        )
        first = radius * torch.cos(angle) + 0.25 - total.abs()
        return torch.stack([first, radius * torch.sin(angle) + difference], dim=1)

    def observed(self) -> np.ndarray:
        with h5py.File(reference_file(*OBSERVATIONS)) as file:
            return np.asarray(file["observations"])[self.observation - 1]

    def reference(self) -> np.ndarray:
        x = torch.from_numpy(self.observed())
        prior, draw = self.prior(), RandomDraws(self.samples, torch.Generator().manual_seed(0))
        kept = torch.empty(0, 2, dtype=torch.float64)
        while len(kept) < self.samples:
            noise = self.simulate(torch.zeros(self.samples, 2, dtype=torch.float64), draw)
            size, difference = noise[:, 0] - x[0], x[1] - noise[:, 1]
            total = torch.where(draw.uniform(0, 1) < 0.5, -size, size)
            theta = torch.stack([total - difference, total + difference], dim=1) / math.sqrt(2)
            kept = torch.cat([kept, theta[(size >= 0) & prior.contains(theta)]])
        return kept[: self.samples].numpy()
