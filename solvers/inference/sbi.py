"""The package sbi, a peer for likelihood-free inference."""

import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch

from sciml.child import described, environment, reports, unreachable
from sciml.errors import UserError
from sciml.parameters import Several
from sciml.solution import Posterior
from sciml.solver import Context, Solver
from sciml.views.simulator import Simulator

from ._samples import sampled

CHILD = Path(__file__).with_name("_sbi_child.py")


class SBI(Solver[Simulator]):
    """The package sbi learns from the same simulations with its defaults, in a process of its own.

    It samples the posterior given the observation that is scored. Its notes have the processor's seconds of training
    and of sampling, without the start of the process. It needs the extra ``peers``.
    Source: A. Tejero-Cantero et al., sbi: A toolkit for simulation-based inference, Journal of Open Source Software 5
    (2020), doi:10.21105/joss.02505.

    Args:
        simulations: simulator calls, made once; those of ``npe`` and ``nre`` with the same seed.
        method: neural posterior or neural ratio estimation, sbi's ``NPE`` and ``NRE``.
        samples: of the posterior.
    """

    kind = "peer"
    needs = Simulator
    ladder: ClassVar[Mapping[str, tuple[int, ...]]] = {"simulations": (500, 1_000, 10_000, 100_000)}

    def __init__(
        self, simulations: Several = 10_000, method: Literal["npe", "nre"] = "npe", samples: Several = 10_000
    ) -> None:
        self.simulations = simulations
        self.method = method
        self.samples = samples

    def refuses(self, problem: Simulator) -> str | None:
        if find_spec("sbi") is None:
            return "the package sbi is not installed; install sciml-solvers with the extra peers"
        return unreachable(problem)

    def solve(self, problem: Simulator, context: Context) -> Posterior:
        made = problem.simulations(self.simulations, context.seed)
        notes: dict[str, float | str] = made.notes(problem.observed())
        with tempfile.TemporaryDirectory(prefix="sciml-", ignore_cleanup_errors=True) as folder:
            given, theta = (Path(folder) / name for name in ("simulations.npz", "samples.npy"))
            np.savez(given, theta=made.theta.numpy(), x=made.x.numpy())
            order = {
                **self.settings,
                "problem": described(problem),
                "seed": context.seed,
                "threads": torch.get_num_threads(),
                "given": str(given),
                "theta": str(theta),
            }
            for report in reports(self.name, CHILD, order, environment(folder, "cpu", {}), Path(folder)):
                notes |= report
            return self._posterior(problem, {"theta": np.load(theta, allow_pickle=False)}, notes)

    def restore(self, problem: Simulator, state: Mapping[str, np.ndarray]) -> Posterior:
        return self._posterior(problem, state, {})

    def _posterior(
        self, problem: Simulator, state: Mapping[str, np.ndarray], notes: Mapping[str, float | str]
    ) -> Posterior:
        observed = problem.observed()

        def samples(x: np.ndarray) -> np.ndarray:
            if not np.array_equal(x, observed):
                raise UserError(f"{self.name} samples given the observation that is scored; make a problem of each")
            return state["theta"]

        return sampled(problem, state, notes, samples)
