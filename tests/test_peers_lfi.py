"""The comparison with sbi: its figures from made-up runs, its failures, and the peer where it is installed."""

import importlib.util
import json
from pathlib import Path

import pytest

import sciml
from problems.inference.two_moons import TwoMoons
from sciml.errors import UserError
from sciml.solution import Posterior
from solvers.inference import sbi
from solvers.inference.sbi import SBI

FILE = Path(__file__).parent.parent / "scripts" / "bench" / "peers_lfi.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("peers_lfi", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def figures(script, theirs, mine):
    """Return value and met of the figures from (c2st, training, sampling) of runs; None where one failed."""
    runs = [[one and script.Run(*one) for one in side] for side in (theirs, mine)]
    found = script.compare("two_moons, npe", *runs)
    json.dumps(found, allow_nan=False)
    assert [f["target"] for f in found.values()] == [0.0, script.SHARE, None]
    return [(f["value"], f["met"]) for f in found.values()]


def test_figures_are_of_means_over_runs(script):
    theirs, mine = [(0.6, 3.0, 5.0), (0.7, 5.0, 7.0)], [(0.5, 1.0, 0.5), (0.7, 3.0, 0.5)]
    (worse, one), (share, other), (training, third) = figures(script, theirs, mine)
    assert (worse, share, training) == pytest.approx((-0.05, 0.25, 0.5))
    assert (one, other, third) == (True, True, True)
    assert [met for _, met in figures(script, mine, theirs)] == [False, False, True]


def test_a_failed_run_leaves_no_figure(script):
    assert figures(script, [None, (0.6, 1.0, 1.0)], [(0.6, 1.0, 1.0)] * 2) == [(None, False)] * 3


def test_without_the_extra_sbi_is_refused_by_name(script, monkeypatch, capsys):
    monkeypatch.setattr(sbi, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"sbi refuses two_moons: .* install sciml-solvers with the extra peers"):
        sciml.solve(TwoMoons(), SBI())
    assert script.run(TwoMoons(), SBI(), 0) is None
    assert "seed 0 failed: sbi refuses two_moons" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("method", ["npe", "nre"])
def test_sbi_samples_the_posterior_of_the_observation_alone(method):
    pytest.importorskip("sbi")
    problem = TwoMoons()
    solution = sciml.solve(problem, SBI(simulations=2000, method=method, samples=1000), seed=0)
    assert isinstance(solution, Posterior)
    assert float(solution.notes["training_seconds"]) > 0
    samples = solution.sample(1000, problem.observed())
    assert abs(samples.mean(axis=0) - problem.reference().mean(axis=0)).max() < 0.1
    with pytest.raises(UserError, match="make a problem of each"):
        solution.sample(10, problem.observed() + 1)
