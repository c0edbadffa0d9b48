"""Datasets of load flows: whole, flagged, the same however they are made, resumed after a kill."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray

from sciml.errors import UserError
from sciml.grid.cases import open_case
from sciml.grid.dataset import Plan, read, write
from sciml.grid.newton_batch import NewtonBatch
from sciml.grid.powergrid import PowerGrid
from sciml.grid.scenarios import Spread

PLAN = Plan(count=230, spread=Spread(0.2, 0.1, 0.1, 0.01), outages=(0, 1, 2, 3), shard=50, seed=3)


@pytest.fixture(scope="module")
def grid() -> PowerGrid:
    return open_case("ieee14")


@pytest.fixture(scope="module")
def solver(grid: PowerGrid) -> NewtonBatch:
    return NewtonBatch(grid)


@pytest.fixture(scope="module")
def whole(grid: PowerGrid, solver: NewtonBatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("load_flows")
    assert write(folder, grid, PLAN, solver) == 5
    return folder


def joined(folder: Path) -> dict[str, np.ndarray]:
    shards = list(read(folder))
    along = [name for name in shards[0] if name not in ("quantity", "branch", "bus")]
    return {name: np.concatenate([s[name] for s in shards]) for name in along}


def test_every_scenario_is_a_row_certified_or_flagged(whole: Path, grid: PowerGrid, solver: NewtonBatch) -> None:
    rows = joined(whole)
    assert rows["scenario"].tolist() == list(range(230))
    assert ((rows["status"] == 0).sum(1) == rows["outages"]).all()
    assert [int((rows["outages"] == k).sum()) for k in range(4)] == [55, 60, 55, 60]
    inputs = np.concatenate([rows["given"], rows["status"]], axis=1)
    assert (rows["islanded"].astype(bool) == grid.islanded(rows["status"])).all()
    assert 10 < rows["islanded"].sum() < 100
    assert np.isnan(rows["vm"][rows["islanded"] == 1]).all()
    good = rows["converged"] == 1
    assert good.sum() + rows["islanded"].sum() > 220
    voltages = (rows["vm"] * np.exp(1j * np.radians(rows["va"])))[good]
    assert np.abs(grid.mismatch(inputs[good], voltages)).max() < 2 * solver.tolerance
    assert rows["mismatch"][good].max() <= solver.tolerance


def test_workers_make_the_same_files(whole: Path, grid: PowerGrid, solver: NewtonBatch, tmp_path: Path) -> None:
    assert write(tmp_path, grid, PLAN, solver, workers=3) == 5
    one, other = joined(whole), joined(tmp_path)
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_a_second_write_makes_what_lacks(whole: Path, grid: PowerGrid, solver: NewtonBatch, tmp_path: Path) -> None:
    write(tmp_path, grid, PLAN, solver)
    assert write(tmp_path, grid, PLAN, solver) == 0
    shard = tmp_path / "shard-000002.h5"
    recorded = shard.with_suffix(".sha256").read_text().split()
    assert recorded == [hashlib.sha256(shard.read_bytes()).hexdigest(), shard.name]
    (tmp_path / "shard-000004.sha256").unlink()  # killed between a shard and its checksum
    damaged = bytearray(shard.read_bytes())
    damaged[-100] ^= 1
    shard.write_bytes(damaged)
    with pytest.raises(UserError, match=r"shard-000002\.h5 is missing or damaged"):
        list(read(tmp_path))
    assert write(tmp_path, grid, PLAN, solver) == 2
    np.testing.assert_array_equal(joined(tmp_path)["vm"], joined(whole)["vm"])


@pytest.mark.slow
def test_a_killed_run_resumes_without_loss_or_repeats(grid: PowerGrid, solver: NewtonBatch, tmp_path: Path) -> None:
    plan = replace(PLAN, count=20_000, shard=100)
    script = (
        "import sys; from pathlib import Path; from tests_plan import plan; "
        "from sciml.grid.cases import open_case; from sciml.grid.dataset import write; "
        "from sciml.grid.newton_batch import NewtonBatch; grid = open_case('ieee14'); "
        "write(Path(sys.argv[1]), grid, plan, NewtonBatch(grid))"
    )
    (tmp_path / "tests_plan.py").write_text(
        f"from sciml.grid.dataset import Plan\nfrom sciml.grid.scenarios import Spread\nplan = {plan!r}\n"
    )
    folder = tmp_path / "killed"
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])
    run = subprocess.Popen([sys.executable, "-c", script, str(folder)], env=os.environ | {"PYTHONPATH": path})
    deadline = time.monotonic() + 100
    while len(list(folder.glob("*.sha256"))) < 5 and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert 0 < write(folder, grid, plan, solver) < plan.shards
    write(tmp_path / "straight", grid, plan, solver)
    one, other = joined(folder), joined(tmp_path / "straight")
    assert one["scenario"].tolist() == list(range(plan.count))
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_another_plan_is_refused(whole: Path, grid: PowerGrid, solver: NewtonBatch, tmp_path: Path) -> None:
    for plan, given in ((replace(PLAN, seed=4), grid), (PLAN, replace(grid, shunt=grid.shunt + 0.1j))):
        with pytest.raises(UserError, match="holds a dataset of another plan, grid or tolerance"):
            write(whole, given, plan, solver)
    with pytest.raises(UserError, match="holds no dataset of load flows"):
        list(read(tmp_path))
    with pytest.raises(UserError, match="of one at least"):
        replace(PLAN, count=0)


def test_a_shard_opens_in_xarray_with_names(whole: Path) -> None:
    with xarray.open_dataset(whole / "shard-000001.h5", engine="h5netcdf") as shard:
        assert shard.vm.dims == ("scenario", "bus")
        assert shard.scenario.values[0] == 50
        assert shard.va.attrs["units"] == "degree"
