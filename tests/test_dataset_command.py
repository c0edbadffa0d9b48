"""``sciml dataset``: what it writes, resumes and refuses."""

from pathlib import Path

import numpy as np
import pytest

from problems.grid.grid import Grid
from sciml.cli import main
from sciml.grid.dataset import read
from sciml.grid.newton_batch import voltages

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
WORDS = ["dataset", "problem=ieee14", "scenarios=120", "shard=50", "problem.train_outages=[0,1,2]"]


def test_the_command_writes_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS, f"folder={tmp_path}", "workers=2", "problem.withheld=0.5"]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith(f"3 of 3 shards written to {tmp_path}")
    problem = Grid(withheld=0.5)
    grid = problem.flow.grid
    shards = list(read(tmp_path))
    assert [len(s["vm"]) for s in shards] == [50, 50, 20]
    for shard in shards:
        good = shard["converged"] == 1
        assert good.sum() + shard["islanded"].sum() == len(good)
        v = voltages(np.concatenate([shard["vm"], shard["va"]], axis=1)[good])
        inputs = np.concatenate([shard["given"], shard["status"]], axis=1)[good]
        assert np.abs(grid.mismatch(inputs, v)).max() < 2e-8
        assert (shard["status"][:, problem.unseen] == 1).all()
    (tmp_path / "shard-000001.h5").unlink()
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("1 of 3 shards")
    np.testing.assert_array_equal(list(read(tmp_path))[1]["vm"], shards[1]["vm"])
    drawn = np.concatenate([problem.scenarios("test"), problem.scenarios("train")])[:, 0]
    assert not np.isin(np.concatenate([s["given"][:, 0] for s in shards]), drawn).any()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset", "problem=ieee14"], "scenarios should be a whole number of at least one, got none"),
        ([*WORDS, "workers=0"], "workers should be a whole number of at least one, got '0'"),
        ([*WORDS, "shards=3"], "no key 'shards'; did you mean 'shard'"),
        ([*WORDS, "problem.spread=3"], "grid has no parameter 'spread'"),
        ([*WORDS, "solver=newton"], "sciml dataset has no key 'solver'"),
        (["dataset", "problem=heat", "scenarios=3"], "heat offers no view Pairs"),
        ([*WORDS, "problem.reactive_limits=true"], "a dataset holds plain load flows"),
    ],
)
def test_mistakes_are_refused_in_a_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
