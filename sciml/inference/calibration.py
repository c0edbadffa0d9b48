"""Whether posteriors are as sure as they may be, and observations such as were simulated."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from sciml.solution import Posterior

LEVEL = 0.95
"""Probability with which curves of a calibrated posterior lie inside their bands as a whole."""
NEIGHBOUR = 5
"""Which of the nearest simulations tells how near they are."""
COMPARED = 2000
"""Simulations that are compared with each other."""


@dataclass(frozen=True)
class Calibration:
    """Numbers in [0, 1] that are uniform where posteriors are calibrated, one row for each of n simulations.

    Sources: S. Talts et al., Validating Bayesian inference algorithms with simulation-based calibration, 2018, arXiv
    1804.06788; P. Lemos et al., Sampling-based accuracy testing of posterior estimators for general inference, 2023,
    arXiv 2302.03026.

    Args:
        ranks: the posterior probability of smaller values of each parameter, shape (n, parameters).
        coverage: the posterior probability of being nearer to a random point than the parameters are, shape (n,).
    """

    ranks: np.ndarray
    coverage: np.ndarray

    @property
    def band(self) -> float:
        """How far the distribution function of n uniform numbers strays anywhere, with probability 95 % at most."""
        return float(stats.kstwo.ppf(LEVEL, len(self.ranks)))

    @property
    def p_value(self) -> float:
        """The probability of ranks or coverage at least as far from uniform, of the worst curve, after Bonferroni."""
        curves = [*self.ranks.T, self.coverage]
        return min(1.0, len(curves) * min(float(stats.kstest(curve, "uniform").pvalue) for curve in curves))

    @property
    def notes(self) -> dict[str, float]:
        """The p-value, and the mean of |2 rank - 1| minus 1/2: positive where posteriors are too narrow."""
        return {
            "calibration_p": self.p_value,
            "overconfidence": float(np.abs(2 * self.ranks - 1).mean() - 0.5),
        }


def weighted(true: Tensor, draws: Tensor, logs: Tensor, generator: torch.Generator) -> Calibration:
    """Compare true parameters with weighted posterior draws given their data.

    Args:
        true: shape (n, parameters).
        draws: shape (n, draws, parameters).
        logs: log weights, shape (n, draws).
        generator: of the random points, which are normal about the draws' mean and as wide as all of them.
    """
    weights = torch.softmax(logs, dim=1)
    ranks = (weights[:, :, None] * (draws < true[:, None])).sum(dim=1)
    scale = draws.flatten(0, 1).std(dim=0)
    points = scale * torch.randn(true.shape, generator=generator, dtype=true.dtype) + draws.mean(dim=(0, 1))
    far, near = (((part - points[:, None]) / scale).norm(dim=2) for part in (draws, true[:, None]))
    return Calibration(ranks.numpy(), (weights * (far < near)).sum(dim=1).numpy())


def calibration(posterior: Posterior, theta: np.ndarray, x: np.ndarray, draws: int = 200, seed: int = 0) -> Calibration:
    """Compare the parameters of fresh simulations with posterior samples given their data.

    Args:
        posterior: what is tested.
        theta: drawn from the prior, shape (n, parameters).
        x: simulated at them, shape (n, data), none of them seen in training.
        draws: posterior samples for each simulation.
        seed: of the samples.
    """
    samples = torch.from_numpy(posterior.sample(draws, x, seed))
    equal = torch.zeros(samples.shape[:2], dtype=samples.dtype)
    return weighted(torch.from_numpy(theta), samples, equal, torch.Generator().manual_seed(seed))


def commonness(simulated: Tensor, observation: Tensor) -> float:
    """Return the share of simulations whose fifth nearest other one is at least as far as that of an observation.

    Args:
        simulated: shape (n, data), on a scale where distances mean something.
        observation: shape (data,).
    """
    some = simulated[:: -(-len(simulated) // COMPARED)]
    k = min(NEIGHBOUR, len(some) - 1)
    among = torch.cdist(some, some).kthvalue(k + 1, dim=1).values  # the nearest is the simulation itself
    own = torch.cdist(observation[None], some).kthvalue(k).values
    return float((among >= own).double().mean())


def familiarity(simulated: Tensor, observation: Tensor) -> dict[str, float | str]:
    """Return how usual an observation is among simulations: 0 where it lies farther off than any of them.

    ``familiarity`` is the share that `commonness` returns; below 1/100 ``misspecified`` is ``yes``, for a network has
    seen nothing like it.
    """
    share = commonness(simulated, observation)
    return {"familiarity": share, "misspecified": "yes" if share < 0.01 else "no"}
