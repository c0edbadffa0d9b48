"""What solvers share whose flows are the posterior."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sciml.views.simulator import Simulator

from ._flows import CLOSED, FlowSolver, Part


class PosteriorFlows(FlowSolver):
    """Flows of the posterior answer as they are; of several members the mean density."""

    def modelled(self, problem: Simulator) -> tuple[Part, ...]:
        return ("posterior",)

    def choose(self) -> dict[str, float]:
        true, drawn, _ = self.rivals()
        return self.calibrated(true, drawn, torch.zeros(drawn.shape[:3]))

    def closing(self, observation: np.ndarray) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        samples = self.draw(CLOSED, observation, torch.Generator().manual_seed(0))
        return samples, lambda scores: self.log_posterior(scores, observation)

    def drawn(self, count: int, observation: np.ndarray, seed: int) -> Tensor:
        scores = self.draw(count, observation, torch.Generator().manual_seed(seed))
        return self.problem.prior().of_normal_scores(scores)

    def density(self, theta: Tensor, observation: np.ndarray) -> Tensor:
        prior = self.problem.prior()
        scores = prior.normal_scores(theta)
        return self.log_posterior(scores, observation) + prior.log_slope(theta, scores)
