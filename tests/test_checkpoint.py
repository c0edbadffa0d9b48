"""Checkpoints: whole on a full disk, safe to read, and bit-identical to go on from."""

import csv
import json
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sciml.errors import SolveError, UserError
from sciml.neural import NeuralSolver, Phase
from sciml.parameters import Count
from sciml.problem import Problem, Table, Variable
from sciml.solution import Solution
from sciml.solver import Context
from sciml.training.checkpoint import AtomicIO, last_checkpoint, load_solution, read_checkpoint
from sciml.training.history import History
from sciml.training.settings import Training

ROOT = Path(__file__).resolve().parent.parent


class Parabola(Problem):
    """y = x² on [0, 1]."""

    primary = "max_error"

    @property
    def inputs(self) -> tuple[Variable, ...]:
        return (Variable("x"),)

    @property
    def outputs(self) -> tuple[Variable, ...]:
        return (Variable("y"),)

    def score(self, solution: Solution, seed: int = 0) -> dict[str, float]:
        x = np.linspace(0, 1, 50)[:, None]
        return {"max_error": float(np.abs(solution(x) - x**2).max())}

    def monitor(self, solution: Solution) -> float:
        return self.score(solution)["max_error"]

    def trivial(self) -> Solution:
        return Solution(self, np.zeros_like)

    def table(self, solution: Solution) -> Table:
        return Table({}, {})

    def figures(self, solution: Solution) -> Iterator[tuple[str, Any]]:
        yield from ()


class Fitted(NeuralSolver[Parabola]):
    """A small network fitted to random points, drawn anew every seventh step of Adam."""

    needs = Parabola
    resample_every = 7

    def __init__(self, width: Count = 12) -> None:
        super().__init__()
        self.width = width

    def build(self, problem: Parabola) -> None:
        into, out = (torch.nn.Linear(*s, dtype=self.real) for s in ((1, self.width), (self.width, 1)))
        self.network = torch.nn.Sequential(into, torch.nn.Tanh(), out)

    def schedule(self) -> tuple[Phase, ...]:
        return Phase("adam", 60, 1e-2, decay=0.1), Phase("lbfgs", 40), Phase("lbfgs", 20)

    def sample(self, generator: torch.Generator) -> dict[str, torch.Tensor]:
        return {"x": torch.rand(32, 1, generator=generator, dtype=self.real)}

    def losses(self, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"fit": (self.network(batch["x"]) - batch["x"].square()).square().mean()}

    def function(self) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: self.network(torch.as_tensor(x, dtype=self.real)).detach().double().numpy()


def train(folder: Path, solver: Fitted | None = None, resume: bool = True, **training: Any) -> Solution:
    settings = Training(
        **{"accelerator": "cpu", "precision": "64", "check_every": 5, "checkpoint_every": 10, **training}
    )
    return (solver or Fitted()).solve(Parabola(), Context(4, settings, folder, resume))


def untimed(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize("precision", ["32", "64"])
@pytest.mark.parametrize("stop", [20, 45, 60, 75, 100, 115])
def test_going_on_ends_in_the_same_bits(tmp_path: Path, precision: str, stop: int) -> None:
    whole = train(tmp_path / "whole", precision=precision)
    cut = train(tmp_path / "cut", precision=precision, max_steps=stop)
    assert cut.notes["steps"] == stop
    resumed = train(tmp_path / "cut", precision=precision)
    assert all(np.array_equal(resumed.state[name], whole.state[name]) for name in whole.state)
    assert untimed(tmp_path / "cut") == untimed(tmp_path / "whole")
    differing = {k for k in whole.notes if whole.notes[k] != resumed.notes[k]}
    assert differing <= {"seconds"}
    assert float(resumed.notes["seconds"]) > float(cut.notes["seconds"])


def test_what_follows_the_checkpoint_is_dropped_from_the_history(tmp_path: Path) -> None:
    whole = train(tmp_path)
    rows = untimed(tmp_path)
    with (tmp_path / "history.csv").open("a") as file:
        file.write("125,999,1.0,lbfgs,0.5,0.5,0.1\n130,99")
    again = train(tmp_path)
    assert untimed(tmp_path) == rows
    assert again.notes == whole.notes


def test_a_history_shorter_than_the_checkpoint_knows_is_reported(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text("step\n1\n")
    with pytest.raises(UserError, match="expected 100 bytes"):
        History(tmp_path / "history.csv", 100)


def test_without_resume_a_training_starts_anew(tmp_path: Path) -> None:
    train(tmp_path, max_steps=20)
    train(tmp_path, resume=False, max_steps=10)
    assert [row["step"] for row in untimed(tmp_path)] == ["1", "5", "10"]


def test_a_checkpoint_gives_the_solution_again(tmp_path: Path) -> None:
    solution = train(tmp_path)
    loaded = load_solution(last_checkpoint(tmp_path), Parabola(), Fitted())
    x = np.linspace(0, 1, 9)[:, None]
    np.testing.assert_array_equal(loaded(x), solution(x))
    assert loaded.notes == solution.notes
    assert all(array.dtype == np.float64 for array in loaded.state.values())


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    train(tmp_path, max_steps=10)
    with pytest.raises(UserError, match=r"network\.0\.bias"):
        load_solution(last_checkpoint(tmp_path), Parabola(), Fitted(width=13))
    with pytest.raises(UserError, match=r"network\.0\.bias"):
        train(tmp_path, Fitted(width=13))
    with pytest.raises(UserError, match="float64"):
        train(tmp_path, precision="32")


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("hostile",)


def test_a_checkpoint_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": Hostile()}, path)
    with pytest.raises(UserError, match="tensors and plain values"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(UserError, match="tensors and plain values"):
        read_checkpoint(path)
    assert not (tmp_path / "hostile").exists()


def test_a_broken_or_missing_checkpoint_is_reported(tmp_path: Path) -> None:
    train(tmp_path, max_steps=10)
    path = last_checkpoint(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="tensors and plain values"):
        train(tmp_path)
    with pytest.raises(UserError, match="found none"):
        load_solution(tmp_path / "none.ckpt", Parabola(), Fitted())


def _go_on_with_a_full_disk(folder: Path, told: Any) -> None:
    limit = last_checkpoint(folder).stat().st_size // 2
    torch.set_num_threads(1)  # the threads of the parent's OpenMP are lost here
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        train(folder)
    except SolveError as error:
        told.put(str(error))
    else:
        told.put("no error")


def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path: Path) -> None:
    train(tmp_path, max_steps=20)
    path = last_checkpoint(tmp_path)
    before = path.read_bytes()
    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()
    process = context.Process(target=_go_on_with_a_full_disk, args=(tmp_path, told))
    process.start()
    message = told.get()
    process.join()
    assert message.startswith("disk full")
    assert "\n" not in message
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    assert train(tmp_path).notes["steps"] == 120


def test_what_a_kill_left_unfinished_is_cleared_away(tmp_path: Path) -> None:
    train(tmp_path, max_steps=10)
    path = last_checkpoint(tmp_path)
    (path.parent / ".last.ckpt.abc.ckpt").write_bytes(b"half")
    train(tmp_path)
    assert list(path.parent.iterdir()) == [path]


def test_saving_needs_no_scratch_space_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "absent"))
    AtomicIO().save_checkpoint({"state_dict": {"a": torch.ones(2)}}, tmp_path / "last.ckpt")
    assert torch.equal(read_checkpoint(tmp_path / "last.ckpt")["state_dict"]["a"], torch.ones(2))


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_trainings_end_in_the_same_bits(kills: int) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "kill_resume.py"), "--kills", str(kills)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])["figures"]
    assert figures["kills"]["value"] >= kills
    assert figures["runs_with_the_same_end"]["value"] == figures["runs_with_the_same_end"]["target"] >= 2
