"""Whether a posterior is right at one observation, told without knowing the right one."""

from dataclasses import dataclass

import torch
from torch import Tensor

LENGTHS = (0.5, 1.0, 2.0, 4.0)
"""Lengths of the kernel among which is chosen, in deviations."""
RIDGES = (0.03, 0.3, 3.0)
"""What is added to the diagonal of the kernel's matrix."""
PAIRS = 500
"""Simulations at most: the time grows with their third power."""


@dataclass(frozen=True)
class Local:
    """The outcome of a local two-sample test.

    Args:
        statistic: the mean square of the classifier's probability minus 1/2, at posterior samples of the observation.
        p_value: the probability of at least that where posteriors are right.
    """

    statistic: float
    p_value: float


def local_c2st(
    true: Tensor,
    drawn: Tensor,
    x: Tensor,
    samples: Tensor,
    observation: Tensor,
    generator: torch.Generator,
    shuffles: int = 200,
) -> Local:
    """Ask a classifier, at the observation, whether θ was drawn along with x or from the posterior given x.

    It learns from simulations, one posterior draw for each, and can see posteriors that are wrong at the observation
    alone and right on average. Where all are right, the two θ of a simulation may change places, which gives the law
    of the statistic. The classifier is the least-squares one of a Gaussian kernel, k_θ (1 + k_x), whose length and
    ridge have the least error on what is left out one by one; it learns all shuffles at once, each with its own.
    Source: J. Linhart, A. Gramfort, P. Rodrigues, L-C2ST: local diagnostics for posterior approximations in
    simulation-based inference, 2023, arXiv 2306.03580, where the classifier is a network.

    Args:
        true: parameters of simulations, shape (n, parameters).
        drawn: one draw of the posterior given the data of each, of the same shape.
        x: those data, shape (n, data), on a scale where distances mean something.
        samples: posterior draws given the observation, shape (m, parameters).
        observation: shape (data,), on the same scale.
        generator: of the shuffles.
        shuffles: how often places are changed.
    """
    true, drawn, x = (part[:PAIRS] for part in (true, drawn, x))
    scale = drawn.std(dim=0)
    theta = torch.cat([true, drawn]) / scale
    labels = torch.ones(len(true), 1 + shuffles, dtype=theta.dtype)
    labels[:, 1:] -= 2 * torch.randint(2, (len(true), shuffles), generator=generator)
    labels = torch.cat([labels, -labels]) / 2
    here = torch.cdist(samples / scale, theta) ** 2 / theta.shape[1]
    apart = torch.cdist(theta, theta) ** 2 / theta.shape[1]
    wide = x.std(dim=0).where(x.std(dim=0) > 0, 1)
    away = torch.cdist(observation[None] / wide, x / wide).tile(2) ** 2 / x.shape[1]
    between = torch.cdist(x / wide, x / wide).tile(2, 2) ** 2 / x.shape[1]
    least = torch.full((1 + shuffles,), torch.inf, dtype=theta.dtype)
    statistics = torch.zeros_like(least)
    for length in LENGTHS:
        kernel, at = ((-t / (2 * length**2)).exp() * (1 + (-d / 2).exp()) for t, d in ((apart, between), (here, away)))
        values, vectors = torch.linalg.eigh(kernel)
        turned, looked = vectors.T @ labels, at @ vectors
        for ridge in RIDGES:
            kept = 1 / (values.clamp_min(0) + ridge)
            left = vectors @ (ridge * kept[:, None] * turned) / (vectors**2 @ (ridge * kept))[:, None]
            error = (left**2).mean(dim=0)
            found = ((looked @ (kept[:, None] * turned)) ** 2).mean(dim=0)
            statistics = torch.where(error < least, found, statistics)
            least = torch.minimum(error, least)
    beyond = int((statistics[1:] >= statistics[0]).sum())
    return Local(float(statistics[0]), (1 + beyond) / (1 + shuffles))
