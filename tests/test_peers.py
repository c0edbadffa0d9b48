"""The comparison with the peers: its figures from made-up runs, its failures, the same work for each peer."""

import importlib.util
import json
from pathlib import Path

import pytest

from problems.pde.inverse_diffusion import InverseDiffusion

FILE = Path(__file__).parent.parent / "scripts" / "bench" / "peers_pde.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("peers_pde", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


THEIRS = ((1.0, 0.5), (60.0, 1e-3), (100.0, 2e-3))
OURS = ((0.5, 1e-1), (2.0, 1e-3), (50.0, 1e-7), (120.0, 1e-9))
FAILED = ()


def compared(script, theirs, mine):
    """Return the two figures from curves, one for each seed."""
    runs = [[script.Run(title, c, "") for c in curves] for title, curves in (("peer", theirs), ("own", mine))]
    figures = script.compare("heat", *runs)
    json.dumps(figures, allow_nan=False)
    assert [f["target"] for f in figures.values()] == [script.FASTER, script.CLOSER]
    assert all(name.startswith("heat, own beside peer: times ") for name in figures)
    return [(f["value"], f["met"]) for f in figures.values()]


def test_times_are_compared_at_the_best_error_and_errors_at_the_last_second(script):
    assert compared(script, [THEIRS], [OURS]) == [(30.0, True), (pytest.approx(1e4), True)]


def test_an_error_that_is_never_reached_is_no_gain(script):
    assert compared(script, [THEIRS], [((150.0, 0.1),)]) == [(0.0, False), (0.0, False)]
    assert compared(script, [THEIRS], [((20.0, 1e-3),)]) == [(3.0, False), (1.0, False)]


@pytest.mark.parametrize(("theirs", "mine"), [(FAILED, OURS), (THEIRS, FAILED), (FAILED, FAILED)])
def test_failures_stay_in_the_figures(script, theirs, mine):
    assert compared(script, [theirs], [mine]) == [(None, False)] * 2
    assert compared(script, [THEIRS, theirs], [OURS, mine]) == [(None, False)] * 2


def test_settings_of_one_solver_count_as_one_run_that_fails_with_any(script):
    fine, coarse = script.Run("own", ((30.0, 1e-9),), "tolerance"), script.Run("own", ((2.0, 1e-3),), "other")
    both = script.together([fine, coarse])
    assert (both.curve, both.said) == (((2.0, 1e-3), (30.0, 1e-9)), "tolerance")
    failed = script.together([fine, script.Run("own", (), "failed: why")])
    assert (failed.curve, failed.said) == ((), "failed: why")


def test_figures_are_medians_over_seeds(script):
    mine = [tuple((seconds / k, error) for seconds, error in OURS) for k in (1, 10, 100)]
    (faster, _), (closer, _) = compared(script, [THEIRS] * 3, mine)
    assert faster == pytest.approx(300)
    assert closer == pytest.approx(1e6)


def test_an_exact_answer_counts_as_rounding(script):
    assert compared(script, [((9.0, 1e-3),)], [((1.0, 0.0),)])[1][0] == pytest.approx(1e-3 / 2**-52)


def test_what_a_peer_refuses_is_a_failed_run(script, capfd):
    for title, solver, precision in script.peers("heat"):
        made = script.run(title, InverseDiffusion(), solver, precision, 0, 1.0)
        assert made.curve == ()
        assert made.said.startswith("failed: ")
    assert title in capfd.readouterr().err


def test_peers_have_the_same_work(script):
    for name in script.PROBLEMS:
        example, double, pina = (solver.settings for _, solver, _ in script.peers(name))
        same = dict(pina)
        assert same.pop("activation") == "tanh"
        layers = same.pop("layers")
        assert layers == (example["width"],) * example["depth"]
        assert same == {key: example[key] for key in same} == {key: double[key] for key in same}
