"""What solvers learn from: the same simulations whoever asks, kept, and what is wrong with them said."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import sciml
from problems.inference.galton import Galton
from sciml.inference.draws import Draws
from sciml.inference.priors import Prior, box
from sciml.neural import NeuralSolver
from sciml.problem import Variable
from sciml.views.simulator import Simulator
from solvers.inference._flows import FlowSolver
from solvers.inference._ratio import RatioSolver
from solvers.inference.auto import Auto
from solvers.inference.gold import Gold
from solvers.inference.nle import NLE
from solvers.inference.npe import NPE
from solvers.inference.nre import NRE
from solvers.inference.rejection_abc import RejectionABC
from solvers.inference.smc_abc import SMCABC


class Fragile(Simulator):
    """x ~ N(θ, 0.1), which fails where θ > 0.8, and beside it a datum that never changes."""

    parameters = (Variable("theta"),)
    data = (Variable("x"), Variable("constant"))
    failures = "excluded"

    def __init__(self) -> None:
        pass

    def prior(self) -> Prior:
        return box([0.0], [1.0])

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        x = draw.normal(theta, 0.1)
        return torch.cat([torch.where(theta > 0.8, torch.nan, x), torch.ones_like(x)], dim=1)

    def observed(self) -> np.ndarray:
        return np.array([3.0, 1.0])

    def reference(self) -> np.ndarray:
        return np.random.default_rng(0).uniform(0.7, 0.8, (1000, 1))


SOLVERS = {
    "npe": NPE(simulations=300, members=1, flow="linear", steps=3),
    "nle": NLE(simulations=300, members=1, flow="linear", steps=3),
    "auto": Auto(simulations=300, members=1, flow="linear", steps=3, emulate=False),
    "nre": NRE(simulations=300, steps=3, width=8, blocks=1),
    "rejection_abc": RejectionABC(simulations=300, kept=20),
    "smc_abc": SMCABC(simulations=1500, particles=20),
}


@pytest.mark.parametrize(
    "solver", [NPE(2500), NLE(2500), Auto(2500, emulate=False), NRE(2500), Gold(2500)], ids=lambda s: s.name
)
def test_networks_of_one_seed_learn_from_the_same_simulations(solver: NeuralSolver) -> None:
    module = solver.fresh(Galton(), 3, torch.float64)
    assert isinstance(module, FlowSolver | RatioSolver)
    if isinstance(module, Gold):
        module.gold(torch.device("cpu"))
    asked = Galton().simulations(2500, 3)
    assert torch.equal(module.simulated.theta, asked.theta)
    assert torch.equal(module.simulated.x, asked.x)


def test_what_one_solver_has_simulated_serves_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCIML_SIMULATIONS", str(tmp_path))
    calls: list[int] = []
    simulate = Fragile.simulate
    monkeypatch.setattr(
        Fragile, "simulate", lambda self, theta, draw: calls.append(len(theta)) or simulate(self, theta, draw)
    )
    for name in ("npe", "nre", "rejection_abc", "nle", "auto"):
        sciml.solve(Fragile(), SOLVERS[name], seed=1)
        assert sum(n for n in calls if n > 1) == 1000, name


@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_say_what_is_wrong_with_their_simulations(name: str) -> None:
    notes = sciml.solve(Fragile(), SOLVERS[name], seed=1).notes
    assert 0 < float(notes["excluded"]) < 0.35
    assert notes["first_failure"] == "it returned NaN or infinity"
    assert notes["constant_data"] == 1
    assert notes["outside"] == 1


def test_later_rounds_leave_out_what_failed() -> None:
    solver = NPE(simulations=400, rounds=2, members=1, flow="linear", steps=3)
    notes = sciml.solve(Fragile(), solver, seed=1).notes
    assert notes["simulator_calls"] == 400
    # A fifth of the prior fails; the second round goes where the observation is, which is farther in there.
    assert 0.2 < float(notes["excluded"]) < 1
