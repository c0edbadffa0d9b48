"""Flows of posteriors and likelihoods against exact ones, and what every posterior promises."""

import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import LogNormal, Normal, Uniform

import sciml
from problems.inference.two_moons import TwoMoons
from sciml.errors import UserError
from sciml.inference.draws import Draws
from sciml.inference.flows import Ensemble
from sciml.inference.priors import Prior, box, gaussian, log_normal
from sciml.inference.scales import DataScale
from sciml.problem import Variable
from sciml.solution import Posterior
from sciml.solver import Context, Solver
from sciml.training.settings import Training
from sciml.views.simulator import Simulator
from solvers.inference.auto import Auto
from solvers.inference.exact import Exact
from solvers.inference.fmpe import FMPE
from solvers.inference.nle import NLE
from solvers.inference.npe import NPE
from solvers.inference.nre import NRE


class Line(Simulator):
    """x = A θ + ε, θ ~ N(0, I), ε ~ N(0, σ² I): the posterior is N(Σ Aᵀx/σ², Σ), Σ = (I + AᵀA/σ²)⁻¹."""

    parameters = (Variable("theta_1", "m"), Variable("theta_2"))
    data = (Variable("x_1"), Variable("x_2"), Variable("x_3"))
    matrix: ClassVar = np.array([[1.0, 0.5], [0.0, 1.0], [1.0, -1.0]])
    noise: ClassVar = 0.5

    def __init__(self) -> None:
        pass

    def prior(self) -> Prior:
        return Prior([Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)] * 2)

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return draw.normal(theta @ torch.from_numpy(self.matrix).to(theta).T, self.noise)

    def observed(self) -> np.ndarray:
        return np.array([1.0, -0.5, 0.7])

    def exact(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        covariance = np.linalg.inv(np.eye(2) + self.matrix.T @ self.matrix / self.noise**2)
        return covariance @ self.matrix.T @ x / self.noise**2, covariance

    def reference(self) -> np.ndarray:
        return np.random.default_rng(0).multivariate_normal(*self.exact(self.observed()), size=2000)


OBSERVATIONS = np.array([[1.0, -0.5, 0.7], [0.0, 0.0, 0.0], [-1.5, 1.0, -1.0]])
SOLVERS: dict[str, Solver] = {
    "npe": NPE(simulations=2000, members=2, flow="linear", steps=300),
    "nle": NLE(simulations=2000, members=2, flow="linear", steps=300, particles=2000),
    "auto": Auto(simulations=2000, members=2, flow="affine", width=32, steps=300, emulate=False),
    "fmpe": FMPE(simulations=2000, members=1, width=32, steps=400),
    "exact": Exact(particles=500),
    "nre": NRE(simulations=2000, steps=600, width=32, blocks=1),
}
LEARNT = [name for name in SOLVERS if name not in ("exact", "nre")]


@pytest.fixture(scope="module")
def posteriors() -> dict[str, Posterior]:
    found = {name: sciml.solve(Line(), solver, seed=0) for name, solver in SOLVERS.items()}
    assert all(isinstance(p, Posterior) for p in found.values())
    return found  # pyright: ignore[reportReturnType]


@pytest.mark.parametrize("name", LEARNT)
def test_flows_find_the_gaussian_posterior_of_any_observation(name: str, posteriors: dict[str, Posterior]) -> None:
    posterior = posteriors[name]
    samples = posterior.sample(4000, OBSERVATIONS, seed=3)
    assert samples.shape == (3, 4000, 2)
    for x, drawn in zip(OBSERVATIONS, samples, strict=True):
        mean, covariance = Line().exact(x)
        deviation = np.sqrt(np.diag(covariance))
        assert np.abs((drawn.mean(axis=0) - mean) / deviation).max() < 0.2
        assert np.abs(np.cov(drawn.T) - covariance).max() < 0.25 * covariance.max()


@pytest.mark.parametrize(
    ("name", "allowed"), [("npe", 0.1), ("nle", 0.15), ("auto", 0.3), ("fmpe", 0.3), ("exact", 0.1), ("nre", 0.3)]
)
def test_densities_are_those_of_the_posterior(name: str, allowed: float, posteriors: dict[str, Posterior]) -> None:
    random = np.random.default_rng(1)
    theta = np.stack([random.multivariate_normal(*Line().exact(x), size=300) for x in OBSERVATIONS])
    found = posteriors[name].log_prob(theta, OBSERVATIONS)
    true = np.stack(
        [stats.multivariate_normal(*Line().exact(x)).logpdf(t) for x, t in zip(OBSERVATIONS, theta, strict=True)]
    )
    assert found.shape == (3, 300)
    assert np.abs(found - true).mean() < allowed
    np.testing.assert_allclose(posteriors[name].log_prob(theta[1], OBSERVATIONS[1]), found[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "allowed"), [("npe", 0.25), ("exact", 0.05)])
def test_the_mode_is_where_the_density_is_greatest(name: str, allowed: float, posteriors: dict[str, Posterior]) -> None:
    modes = posteriors[name].map(OBSERVATIONS)
    assert modes.shape == (3, 2)
    for x, mode in zip(OBSERVATIONS, modes, strict=True):
        mean, covariance = Line().exact(x)
        assert np.abs((mode - mean) / np.sqrt(np.diag(covariance))).max() < allowed


def test_a_posterior_goes_to_arviz_with_names_and_units(posteriors: dict[str, Posterior]) -> None:
    tree = posteriors["npe"].inference_data(50, OBSERVATIONS[0], seed=4)
    drawn = tree["posterior"]["theta_1"]
    assert drawn.dims == ("chain", "draw")
    assert drawn.attrs["units"] == "m"
    np.testing.assert_array_equal(drawn[0], posteriors["npe"].sample(50, OBSERVATIONS[0], seed=4)[:, 0])
    assert float(tree["observed_data"]["x_3"]) == 0.7


def test_a_posterior_without_density_says_so(posteriors: dict[str, Posterior]) -> None:
    alone = Posterior(Line(), posteriors["npe"].function, sampler=posteriors["npe"].sampler)
    with pytest.raises(UserError, match="samples alone"):
        alone.log_prob(np.zeros((1, 2)), OBSERVATIONS[0])
    with pytest.raises(UserError, match=r"shape \(3, n, 2\) for these observations, got \(4, 2\)"):
        posteriors["npe"].log_prob(np.zeros((4, 2)), OBSERVATIONS)
    with pytest.raises(UserError, match=r"expected one observation of shape \(3,\), or several"):
        posteriors["npe"].sample(5, [1.0, 2.0])


def test_the_combination_weighs_well_and_reports_its_calibration(posteriors: dict[str, Posterior]) -> None:
    notes = posteriors["auto"].notes
    assert 0 <= float(notes["power"]) <= 1
    assert 0.5 < float(notes["effective_fraction"]) <= 1
    assert float(notes["calibration_p"]) > 0.01
    assert abs(float(notes["overconfidence"])) < 0.1
    assert float(notes["local_c2st_p"]) > 0.01
    assert notes["misspecified"] == "no"
    shown = posteriors["auto"].calibration
    assert shown is not None
    assert shown.notes["calibration_p"] == pytest.approx(float(notes["calibration_p"]), rel=1e-3)


@pytest.mark.parametrize("method", [NPE, NLE])
def test_later_rounds_simulate_only_where_the_posterior_is(
    method: type[NPE] | type[NLE], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    simulate = Line.simulate
    monkeypatch.setattr(Line, "simulate", lambda self, theta, draw: seen.append(theta) or simulate(self, theta, draw))
    solver = method(simulations=800, rounds=2, members=2, flow="linear", steps=300)
    posterior = sciml.solve(Line(), solver, seed=0)
    assert isinstance(posterior, Posterior)
    first = Line().simulations(400, seed=0).theta
    (second,) = (t for t in seen if len(t) == 400)
    mean, covariance = Line().exact(Line().observed())
    far = [np.abs((t.numpy() - mean) / np.sqrt(np.diag(covariance))).max(axis=1) for t in (first, second)]
    assert np.quantile(far[0], 0.9) > 3.5
    assert np.quantile(far[1], 0.95) < 5
    assert posterior.notes["simulator_calls"] == 800
    samples = posterior.sample(2000, Line().observed())
    assert np.abs((samples.mean(axis=0) - mean) / np.sqrt(np.diag(covariance))).max() < 0.25


def test_training_resumed_in_a_later_round_ends_in_the_same_bits(tmp_path: Path) -> None:
    solver = NPE(simulations=200, rounds=2, members=1, flow="linear", steps=40)
    whole = sciml.solve(Line(), solver, seed=3, training=Training(check_every=10, checkpoint_every=10))
    for steps, resume in ((60, False), (80, True)):
        training = Training(check_every=10, checkpoint_every=10, max_steps=steps)
        parts = solver.solve(Line(), Context(3, training, tmp_path, resume))
    for name, values in whole.state.items():
        np.testing.assert_array_equal(parts.state[name], values, err_msg=name)


def test_too_few_simulations_a_round_are_refused() -> None:
    with pytest.raises(UserError, match="at least 50 simulations a round, got 120 for 3"):
        NPE(simulations=120, rounds=3)


def test_samples_stay_inside_the_prior() -> None:
    problem = TwoMoons(observation=7)
    solver = Auto(simulations=200, members=1, flow="affine", steps=20)
    posterior = sciml.solve(problem, solver, seed=0)
    assert isinstance(posterior, Posterior)
    assert (np.abs(posterior.sample(500, problem.observed())) <= 1).all()
    inside, outside = posterior.log_prob([[0.3, 0.3], [0.3, 1.1]], problem.observed())
    assert np.isfinite(inside)
    assert outside == -np.inf
    assert (np.abs(posterior.map(problem.observed())) <= 1).all()


@pytest.mark.parametrize(
    "prior",
    [
        box((-1, 2), (1, 5)),
        log_normal((0.0, -3.0), (0.5, 1.0)),
        gaussian(torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=torch.float64)),
        Prior([LogNormal(torch.tensor(0.0, dtype=torch.float64), 1.0), Uniform(torch.tensor(-2.0).double(), 3.0)]),
    ],
)
def test_normal_scores_of_the_prior_are_normal_and_lead_back(prior: Prior) -> None:
    theta = prior.sample(5000, torch.Generator().manual_seed(0))
    scores = prior.normal_scores(theta)
    assert all(stats.kstest(column, "norm").pvalue > 1e-3 for column in scores.T.numpy())
    assert abs(float(torch.corrcoef(scores.T)[0, 1])) < 0.05
    torch.testing.assert_close(prior.of_normal_scores(scores), theta)
    point = theta[:1].clone().requires_grad_()
    slope = torch.autograd.functional.jacobian(prior.normal_scores, point)[0, :, 0]
    torch.testing.assert_close(prior.log_slope(theta[:1], scores[:1])[0], torch.linalg.slogdet(slope).logabsdet)


def test_parameters_that_rounding_puts_beyond_an_edge_have_scores() -> None:
    prior = box((0.1,), (0.3,))
    beyond = torch.tensor([[0.3], [0.1]], dtype=torch.float32).double()
    assert not prior.contains(beyond).all()
    scores = prior.normal_scores(beyond)
    assert scores.isfinite().all()
    assert scores[0] > 8
    assert prior.contains(prior.of_normal_scores(scores)).all()


def test_data_are_seen_on_the_scale_of_their_kind() -> None:
    random = np.random.default_rng(0)
    columns = [random.lognormal(2, 1, 4000), random.poisson(30, 4000), random.standard_t(1.5, 4000), np.full(4000, 7.5)]
    x = torch.from_numpy(np.stack(columns, axis=1))
    scale = DataScale(4, torch.float64)
    scale.fit(x)
    z = scale(x)
    np.testing.assert_allclose(z[:, 0], (x[:, 0].log() - x[:, 0].log().quantile(0.5)) / scale.width[0])
    assert float(z[:, 1].std()) == pytest.approx(1, abs=0.1)
    assert float(2 * x[:, 1].sqrt().std()) == pytest.approx(float(scale.width[1]), rel=0.1)
    assert float(z[:, 2].abs().max()) > 30 > 10 >= float(scale.context(x)[:, 2].abs().max())
    assert (z[:, 3] == 0).all()


@pytest.mark.parametrize("kind", ["linear", "affine", "spline"])
def test_a_flow_is_a_density_from_which_it_samples(kind: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ensemble = Ensemble([kind], 2, 1, 1, 16, torch.float64)  # pyright: ignore[reportArgumentType]
        for weights in ensemble.kept.parameters():
            weights += 0.1 * torch.randn_like(weights)
    c, grid = torch.tensor([0.5], dtype=torch.float64), torch.linspace(-40, 40, 40_001, dtype=torch.float64)[:, None]
    density = ensemble.log_prob(grid, c.expand(len(grid), 1)).exp()
    mass = torch.cumulative_trapezoid(density, grid[:, 0])
    assert float(mass[-1]) == pytest.approx(1, abs=1e-3)
    drawn = ensemble.sample(4000, c, torch.Generator().manual_seed(1))[:, 0].numpy()
    assert stats.kstest(drawn, lambda y: np.interp(y, grid[1:, 0], mass)).pvalue > 1e-3


def test_the_kind_with_the_least_held_out_loss_answers() -> None:
    ensemble = Ensemble(["linear", "affine"], 2, 1, 1, 8, torch.float64)
    ensemble.held_out.copy_(torch.tensor([[1.0, 2.0], [1.4, 1.2]]))
    assert ensemble.kinds[ensemble.chosen] == "affine"
    y = torch.zeros(2, 5, 1, dtype=torch.float64)
    before = ensemble.held_out.clone()
    ensemble.keep(y, y)
    better = -torch.stack([torch.stack([f(y[0], y[0]).mean() for f in m]) for m in ensemble.trained])
    torch.testing.assert_close(ensemble.held_out, torch.minimum(before, better), rtol=1e-6, atol=1e-6)
    assert math.isinf(Ensemble(["linear"], 1, 1, 1, 8, torch.float64).held_out.item())


class Failing(Line):
    """A line without data where θ_1 is large, near its posterior too."""

    failures = "excluded"

    def simulate(self, theta: Tensor, draw: Draws) -> Tensor:
        return super().simulate(theta, draw).masked_fill(theta[:, :1] > 0.7, torch.nan)


@pytest.mark.parametrize(
    "solver",
    [NPE(simulations=200, rounds=2, members=1, flow="linear", steps=50), NRE(simulations=200, steps=10)],
    ids=["npe", "nre"],
)
def test_failed_simulations_are_left_out_of_every_round_and_counted(solver: NPE | NRE) -> None:
    notes = sciml.solve(Failing(), solver, seed=0).notes
    assert 0.1 < float(notes["excluded"]) < 0.6
    assert notes["simulator_calls"] == 200
