"""Rejection approximate Bayesian computation."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
from scipy.spatial import KDTree

from sciml.parameters import Several
from sciml.solution import Posterior
from sciml.solver import Context, Solver
from sciml.views.simulator import Simulator

from ._samples import deviations, smoothed


class RejectionABC(Solver[Simulator]):
    """Of many simulations from the prior, the parameters of those nearest to the observation are kept.

    p(θ|x) ≈ p(θ | |x' - x| <= ε)

    with the Euclidean distance of data divided by their deviations, and ε that of the farthest simulation
    kept. Samples are drawn from a Gaussian kernel estimate over the parameters kept, its bandwidth chosen by
    five-fold cross-validation, and redrawn where they fall outside the prior.
    Sources: J. K. Pritchard et al., Population growth of human Y chromosomes, Mol. Biol. Evol. 16, 1999;
    smoothed, with the 100 nearest, as by J.-M. Lueckmann et al., Benchmarking simulation-based inference,
    2021, arXiv 2101.04653.

    Args:
        simulations: simulator calls, made once; any observation is answered from them.
        kept: the nearest simulations that are kept.
    """

    kind = "classical"
    needs = Simulator
    ladder: ClassVar[Mapping[str, tuple[int, ...]]] = {"simulations": (1_000, 10_000, 100_000, 1_000_000)}

    def __init__(self, simulations: Several = 10_000, kept: Several = 100) -> None:
        self.simulations = simulations
        self.kept = kept

    def solve(self, problem: Simulator, context: Context) -> Posterior:
        found = problem.simulations(self.simulations, context.seed)
        answer = self.restore(problem, {"theta": found.theta.numpy(), "x": found.x.numpy()})
        return replace(answer, notes={**answer.notes, **found.notes(problem.observed())})

    def restore(self, problem: Simulator, state: Mapping[str, np.ndarray]) -> Posterior:
        theta, x = state["theta"], state["x"]
        scale = deviations(x)
        tree = KDTree(x / scale)
        kept = min(self.kept, len(x))
        prior = problem.prior()

        def nearest(observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            distances, rows = tree.query(observations / scale, k=kept)
            return theta[rows], distances[:, -1]

        def sampler(count: int, observation: np.ndarray, seed: int) -> np.ndarray:
            return smoothed(nearest(observation[None])[0][0], prior, count, seed)

        notes = {
            "simulator_calls": len(x),
            "kept": kept,
            "distance": float(nearest(problem.observed()[None])[1][0]),
        }
        return Posterior(problem, lambda x: nearest(x)[0].mean(axis=1), state, notes, sampler=sampler)
