"""Calibration tells posteriors that are too sure, and observations that are odd."""

import numpy as np
import pytest
import torch
from scipy import stats

from sciml.inference.calibration import Calibration, calibration, commonness, familiarity, weighted
from sciml.inference.figures import calibration_figure, predictive_figure, rank_figure
from sciml.inference.local import Local, local_c2st
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


def test_figures_show_every_curve_and_the_band(simulated: tuple[np.ndarray, np.ndarray]) -> None:
    found = calibration(posterior(1.0), *simulated)
    covered, ranked = calibration_figure(Mean.outputs, found).axes  # pyright: ignore
    labels = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in (covered, ranked)]
    assert labels == [["95 %", "coverage"], ["95 %", "theta_1", "theta_2"]]
    panels = rank_figure(Mean.outputs, found).axes  # pyright: ignore
    assert [panel.get_title() for panel in panels] == ["theta_1", "theta_2"]


def test_the_band_of_histograms_holds_all_bins_of_uniform_ranks_nineteen_times_in_twenty() -> None:
    sets = np.random.default_rng(0).random((1000, 400, 2))
    (panel, _) = rank_figure(Mean.outputs, Calibration(sets[0], sets[0, :, 0])).axes  # pyright: ignore
    low, high = panel.patches[0].get_y() + np.array([0, panel.patches[0].get_height()])
    counts = np.apply_along_axis(lambda ranks: np.histogram(ranks, 20, (0, 1))[0], 1, sets)
    assert 0.94 < ((counts >= low) & (counts <= high)).all(axis=(1, 2)).mean() < 0.99


@pytest.mark.parametrize("data", [2, 20])
def test_predictive_figures_hold_the_observation(data: int) -> None:
    drawn, observed = np.random.default_rng(0).normal(size=(100, data)), np.full(data, 2.0)
    figure = predictive_figure([Variable(f"x_{k}", "m") for k in range(data)], drawn, observed)
    lines = [line for axes in figure.axes for line in axes.lines]
    assert len(lines) == (data if data == 2 else 1)
    assert all((np.asarray(line.get_xdata() if data == 2 else line.get_ydata()) == 2).all() for line in lines)


def local(observation: list[float], shift: str, count: int = 400) -> Local:
    """Return the test at an observation of draws that are shifted everywhere, nowhere, or to where x_1 points."""
    random = np.random.default_rng(1)
    theta = random.normal(size=(count, 2))
    x = theta + random.normal(size=theta.shape)

    def drawn(x: np.ndarray) -> np.ndarray:
        by = {"nowhere": 0 * x[:, 0], "everywhere": 0.5 + 0 * x[:, 0], "sideways": np.sign(x[:, 0])}[shift]
        return x / 2 + np.sqrt(0.5) * random.normal(size=x.shape) + np.column_stack([by, 0 * by])

    seen = np.tile(observation, (500, 1))
    parts = map(torch.from_numpy, (theta, drawn(x), x, drawn(seen), seen[0]))
    return local_c2st(*parts, torch.Generator().manual_seed(0))


def test_the_local_test_passes_right_posteriors_and_catches_wrong_ones() -> None:
    assert local([1.0, 0.0], "nowhere").p_value > 0.05
    assert local([1.0, 0.0], "everywhere").p_value < 0.01
    for side in (-1.5, 1.5):
        assert local([side, 0.0], "sideways").p_value < 0.01  # right on average, since the shifts cancel


def test_an_observation_unlike_all_simulations_is_a_caveat() -> None:
    x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    usual, odd = familiarity(x, x.new_tensor([0.1, 0.2, 0.3])), familiarity(x, x.new_tensor([5.0, 5.0, 5.0]))
    assert float(usual["familiarity"]) > 0.1
    assert odd == {"familiarity": 0.0, "misspecified": "yes"}
    assert caveats(usual) == ()
    assert caveats(odd) == ("the observation resembles no simulation",)


def test_usual_data_are_spread_evenly_over_what_is_common() -> None:
    x = torch.randn(800, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert stats.kstest([commonness(x[200:], row) for row in x[:200]], "uniform").pvalue > 0.01
