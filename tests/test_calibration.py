"""Calibration tells posteriors that are too sure, and observations that are odd."""

import numpy as np
import pytest
import torch
from scipy import stats

from sciml.inference.calibration import calibration, calibration_figure, familiarity, weighted
from sciml.problem import Problem, Variable
from sciml.runs.caveats import caveats
from sciml.solution import Posterior


class Mean(Problem):
    """θ ~ N(0, I) in two dimensions, x ~ N(θ, I); the posterior is N(x/2, I/2)."""

    primary = ""
    inputs = (Variable("x_1"), Variable("x_2"))  # pyright: ignore
    outputs = (Variable("theta_1"), Variable("theta_2"))  # pyright: ignore
    score = trivial = table = figures = None  # pyright: ignore


def posterior(width: float, shift: float = 0.0) -> Posterior:
    def sampler(count: int, x: np.ndarray, seed: int) -> np.ndarray:
        return x / 2 + shift + width * np.sqrt(0.5) * np.random.default_rng(seed).normal(size=(count, 2))

    return Posterior(Mean(), lambda x: x / 2, sampler=sampler)


@pytest.fixture(scope="module")
def simulated() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    theta = random.normal(size=(500, 2))
    return theta, theta + random.normal(size=(500, 2))


def test_an_exact_posterior_passes(simulated: tuple[np.ndarray, np.ndarray]) -> None:
    found = calibration(posterior(1.0), *simulated)
    assert found.p_value > 0.05
    assert abs(found.notes["overconfidence"]) < 0.03


@pytest.mark.parametrize(("width", "shift", "sign"), [(0.6, 0.0, 1), (1.6, 0.0, -1), (1.0, 0.4, 1)])
def test_a_wrong_posterior_is_caught(
    width: float, shift: float, sign: int, simulated: tuple[np.ndarray, np.ndarray]
) -> None:
    found = calibration(posterior(width, shift), *simulated)
    assert found.p_value < 1e-4
    assert sign * found.notes["overconfidence"] > 0.02


def test_coverage_catches_what_ranks_of_single_parameters_do_not() -> None:
    random = np.random.default_rng(0)
    theta = random.multivariate_normal([0, 0], [[1, 0.95], [0.95, 1]], 800)
    draws = torch.from_numpy(random.normal(size=(800, 200, 2)))  # the right marginals, no correlation
    found = weighted(torch.from_numpy(theta), draws, torch.zeros(800, 200), torch.Generator().manual_seed(0))
    assert all(stats.kstest(ranks, "uniform").pvalue > 1e-3 for ranks in found.ranks.T)
    assert stats.kstest(found.coverage, "uniform").pvalue < 1e-4


def test_weights_turn_draws_of_another_law_into_those_of_the_posterior() -> None:
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(400, 1, generator=generator, dtype=torch.float64)
    draws = 2 * torch.randn(400, 400, 1, generator=generator, dtype=torch.float64)
    logs = (-(draws**2) / 2 + (draws / 2) ** 2 / 2)[..., 0]
    assert weighted(true, draws, logs, generator).p_value > 0.01
    assert weighted(true, draws, torch.zeros_like(logs), generator).p_value < 1e-4


def test_the_band_holds_uniform_numbers_nineteen_times_in_twenty() -> None:
    found = calibration(posterior(1.0), np.zeros((200, 2)), np.zeros((200, 2)), 10)
    sets = np.sort(np.random.default_rng(0).random((2000, 200)), axis=1)
    high, low = np.arange(1, 201) / 200 - sets, sets - np.arange(200) / 200
    inside = (np.maximum(high, low).max(axis=1) < found.band).mean()
    assert inside == pytest.approx(0.95, abs=0.015)


def test_the_figure_shows_every_curve_and_the_band(simulated: tuple[np.ndarray, np.ndarray]) -> None:
    figure = calibration_figure(Mean.outputs, calibration(posterior(1.0), *simulated))  # pyright: ignore
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["95 %", "theta_1", "theta_2", "coverage"]


def test_an_observation_unlike_all_simulations_is_a_caveat() -> None:
    x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    usual, odd = familiarity(x, x.new_tensor([0.1, 0.2, 0.3])), familiarity(x, x.new_tensor([5.0, 5.0, 5.0]))
    assert float(usual["familiarity"]) > 0.1
    assert odd == {"familiarity": 0.0, "misspecified": "yes"}
    assert caveats(usual) == ()
    assert caveats(odd) == ("the observation resembles no simulation",)
