"""Posteriors that are samples and nothing more."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity

from sciml.inference.priors import Prior
from sciml.inference.resampling import by_observation
from sciml.solution import Posterior
from sciml.views.simulator import Simulator

BANDWIDTHS = np.geomspace(0.01, 1, 20)
"""Candidates, in standard deviations of the points."""
Samples = Callable[[np.ndarray], np.ndarray]
"""Equally weighted posterior samples (n, parameters) of an observation (data,)."""


def sampled(
    problem: Simulator,
    state: Mapping[str, np.ndarray],
    notes: Mapping[str, float | str],
    samples: Samples,
    smooth: bool = False,
) -> Posterior:
    """Return the posterior of which there are samples, drawn again as they are or from a kernel estimate over them."""
    prior = problem.prior()

    def means(observations: np.ndarray) -> np.ndarray:
        rows = [samples(x).mean(axis=0) for x in observations]
        return np.array(rows).reshape(len(observations), len(problem.parameters))

    def sampler(count: int, observation: np.ndarray, seed: int) -> np.ndarray:
        theta = samples(observation)
        if smooth:
            return smoothed(theta, prior, count, seed)
        return np.random.default_rng(seed).choice(theta, count, replace=count > len(theta))

    return Posterior(problem, means, state, notes, sampler=sampler)


def rerun(
    problem: Simulator,
    state: Mapping[str, np.ndarray],
    notes: Mapping[str, float | str],
    run: Callable[[np.ndarray, int], np.ndarray],
) -> Posterior:
    """Return the posterior of particles kept for the observation that is scored; any other one is run for when asked.

    Args:
        problem: the simulator.
        state: ``theta``, the particles kept, shape (n, parameters), and the ``seed`` of all runs.
        notes: what the solver says of itself.
        run: returns particles given an observation (data,) and a seed.
    """
    observed, seed = problem.observed(), int(state["seed"])

    @by_observation
    def samples(x: np.ndarray) -> np.ndarray:
        return state["theta"] if np.array_equal(x, observed) else run(x, seed)

    return sampled(problem, state, notes, samples, smooth=True)


def deviations(x: np.ndarray) -> np.ndarray:
    """Return the standard deviations of data (n, data), by which distances are measured; 1 of constant ones."""
    deviation = x.std(axis=0)
    return np.where(deviation > 0, deviation, 1)


def smoothed(points: np.ndarray, prior: Prior, count: int, seed: int) -> np.ndarray:
    """Draw ``count`` samples inside the prior from a Gaussian kernel estimate over points (n, parameters)."""
    scale = np.maximum(points.std(axis=0), np.finfo(float).tiny)
    folds = KFold(5, shuffle=True, random_state=seed)
    search = GridSearchCV(KernelDensity(), {"bandwidth": BANDWIDTHS}, cv=folds).fit(points / scale)
    random = np.random.RandomState(seed)
    samples = np.empty((0, points.shape[1]))
    while len(samples) < count:
        drawn = search.best_estimator_.sample(count, random_state=random) * scale
        samples = np.concatenate([samples, drawn[prior.contains(torch.from_numpy(drawn)).numpy()]])
    return samples[:count]
