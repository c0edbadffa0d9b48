"""Screening: outages enumerated, ranked by any solver, overloads found against exact enumeration."""

import json
import os
import subprocess
import sys
from math import comb
from pathlib import Path

import numpy as np
import pytest

from sciml.cli import main
from sciml.errors import UserError
from sciml.grid.cases import open_case
from sciml.grid.newton_batch import NewtonBatch
from sciml.grid.powerflow import PowerFlow
from sciml.grid.powergrid import PowerGrid
from sciml.grid.screening import Answer, all_outages, certifying, limits, loadings, overloaded, ranked
from solvers.grid.dc_newton1 import DCNewton1

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def grid() -> PowerGrid:
    return open_case("ieee30")


@pytest.fixture(scope="module")
def exact(grid: PowerGrid) -> Answer:
    return certifying(NewtonBatch(grid))


def test_every_pair_is_there_once(grid: PowerGrid) -> None:
    found = all_outages(grid, 2)
    branches = len(grid.source)
    assert len(found.inputs) + found.islanded == comb(branches, 2)
    status = found.inputs[:, -branches:]
    assert ((status == 0).sum(1) == 2).all()
    assert (np.take_along_axis(status, found.branches, 1) == 0).all()
    assert len(np.unique(found.branches, axis=0)) == len(found.branches)
    assert not grid.islanded(status).any()
    with pytest.raises(UserError, match="41 branches are in service, 42 cannot be out"):
        all_outages(grid, 42)


def test_no_single_outage_passes_a_limit(grid: PowerGrid, exact: Answer) -> None:
    limit = limits(grid, exact, 1.1)
    single = loadings(grid, exact, all_outages(grid, 1).inputs, limit)
    assert np.nanmax(single) == pytest.approx(1 / 1.1)
    state = grid.nominal.copy()
    state[: 2 * len(grid.loads)] *= 0.5
    assert (limits(grid, exact, 1.1, state) < limit).mean() > 0.8


def test_a_ranking_by_the_exact_solver_finds_all_there_are(grid: PowerGrid, exact: Answer) -> None:
    inputs, limit = all_outages(grid, 2).inputs, limits(grid, exact, 1.1)
    truth = loadings(grid, exact, inputs, limit)
    bad = overloaded(truth)
    assert 20 < bad.sum() < len(bad) / 2
    assert bad[np.isnan(truth)].all()
    order = ranked(truth)
    assert bad[order[: bad.sum()]].all()
    step = DCNewton1().answer(PowerFlow(grid))
    near = ranked(loadings(grid, step, inputs, limit))
    assert bad[near[: bad.sum()]].sum() > 0.9 * bad.sum()
    rng = np.random.default_rng(0)
    blind = bad[ranked(rng.random(len(bad)))[: bad.sum()]].sum()
    assert blind < 0.6 * bad.sum()


def test_what_has_no_answer_comes_first() -> None:
    loading = np.array([0.5, np.nan, 2.0, 1.0])
    assert ranked(loading).tolist() == [1, 2, 3, 0]
    assert overloaded(loading).tolist() == [False, True, True, False]


@pytest.mark.slow
def test_the_script_screens_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["problem=ieee14", "solver=dc", "problem.test=5", "problem.train=10", f"run.dir={run}", "compare=false"]
    assert main(["train", *words]) == 0
    script = Path(__file__).parents[1] / "scripts" / "screen_outages.py"
    path = {"PYTHONPATH": str(script.parents[1])}
    words = [sys.executable, "-W", "ignore", str(script), str(run), "--budget", "20", "--margin", "1.05"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=os.environ | path)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["outages"] < comb(20, 2)
    found = figures[str(run)]["first_20"]
    assert 0 < found["found"] <= found["possible"] <= figures["overloads"]
