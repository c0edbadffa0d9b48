"""Learnt simulators: the test that tells two samples apart, and networks that draw data."""

import numpy as np
import pytest
import torch
from torch import Tensor

import sciml
from problems.inference.gaussian_linear import GaussianLinear
from problems.inference.two_moons import TwoMoons
from sciml.inference.scales import DataScale
from sciml.inference.two_sample import told_apart
from sciml.solution import Posterior
from sciml.training.settings import Training
from solvers.inference.rejection_abc import RejectionABC
from solvers.inference.surrogate import Surrogate


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, columns: int = 3) -> Tensor:
    return torch.randn(100, columns, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["continuous", "counts", "constant"])
def test_samples_of_one_law_are_not_told_apart(kind: str) -> None:
    change = {"continuous": lambda x: x, "counts": torch.round, "constant": torch.zeros_like}[kind]
    tests = [told_apart(change(normal(2 * k)), change(normal(2 * k + 1)), generator(k)) for k in range(300)]
    mean = np.mean([test.accuracy for test in tests])
    assert abs(mean - 0.5) < 4 * 0.05 / np.sqrt(300)
    assert np.mean([test.p_value < 0.05 for test in tests]) < 0.1


def test_samples_of_two_laws_are_told_apart() -> None:
    assert told_apart(normal(0), normal(1) + 2, generator()).accuracy > 0.9
    assert told_apart(normal(0), normal(1) + 2, generator()).p_value < 1e-6
    assert told_apart(normal(0), 3 * normal(1), generator()).p_value < 0.01


def test_scales_are_inverted() -> None:
    counts = torch.randint(0, 9, (500, 1), generator=generator()).double()
    x = torch.cat([normal(0)[:, :1].repeat(5, 1), normal(1)[:, :1].exp().repeat(5, 1), counts], dim=1)
    scale = DataScale(3, torch.float64)
    scale.fit(x)
    assert scale.kind.tolist() == [0, 1, 2]
    noise = torch.rand(500, 3, generator=generator(), dtype=torch.float64) - 0.5
    torch.testing.assert_close(scale.inverse(scale(x, noise)), x)


def solved(model: str, steps: int, width: int = 32, learning_rate: float = 1e-3, multiple: int = 4) -> Posterior:
    method = Surrogate(1000, model, width, 128, steps, learning_rate, multiple)  # pyright: ignore[reportArgumentType]
    found = sciml.solve(GaussianLinear(), method, seed=1, training=Training(accelerator="cpu"))
    assert isinstance(found, Posterior)
    return found


def test_a_flow_learns_a_normal_law() -> None:
    notes = solved("flow", 50).notes
    assert notes["check_calls"] == 2000
    assert float(notes["two_sample"]) < 0.54
    assert float(notes["two_sample_rejected"]) < 0.3


def test_a_gan_comes_nearer_to_a_normal_law() -> None:
    untrained, trained = (float(solved("gan", steps, 64, 3e-3).notes["two_sample"]) for steps in (1, 600))
    assert trained < untrained - 0.1


def test_inference_on_the_surrogate_is_that_of_its_data() -> None:
    solution, problem = solved("flow", 50), GaussianLinear()
    x = problem.observed()
    true = problem.joint(4000, generator(5))
    by_simulator = RejectionABC(1000).restore(problem, {"theta": true[0].numpy(), "x": true[1].numpy()})
    deviation = problem.reference().std(axis=0)
    apart = (solution.sample(500, x).mean(axis=0) - by_simulator.sample(500, x).mean(axis=0)) / deviation
    assert np.abs(apart).max() < 0.6


def test_the_comparison_can_be_left_out() -> None:
    found = sciml.solve(TwoMoons(), Surrogate(simulations=500, steps=2, unseen=0), training=Training(accelerator="cpu"))
    assert "check_calls" not in found.notes
