"""Checkpoints of a training: whole or absent on disk, and read without running any code."""

import errno
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from sciml.errors import SolveError, UserError
from sciml.files import replacing
from sciml.neural import NeuralSolver, real_of
from sciml.problem import Problem
from sciml.solution import Solution

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def last_checkpoint(folder: Path) -> Path:
    """Return where the checkpoint of a run folder lies."""
    return folder / "checkpoints" / "last.ckpt"


class AtomicIO(CheckpointIO):
    """Writes a checkpoint under a temporary name in its own folder, flushes it to disk, then renames it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        whole = io.BytesIO()
        torch.save(checkpoint, whole)
        with writing(Path(path)), replacing(Path(path)) as temporary:
            temporary.write_bytes(whole.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        return torch.load(path, map_location="cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write ``path`` into one line.

    Raises:
        SolveError: the disk is full, or the file cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise SolveError(
                f"disk full: {path} was not written (the one before is whole); free space and resume"
            ) from None
        raise SolveError(f"could not write {path}: {error.strerror}") from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint with ``weights_only=True``, tensors on the CPU.

    Raises:
        UserError: no such file, not a checkpoint, or one that holds more than tensors and plain values.
    """
    if not path.is_file():
        raise UserError(f"expected a checkpoint at {path}, found none; train with a run folder first")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        return {**checkpoint, "state_dict": dict(checkpoint["state_dict"])}
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError):
        raise UserError(f"expected tensors and plain values in {path}, found none; train again") from None


def require_match(checkpoint: dict[str, Any], module: NeuralSolver[Any], path: Path) -> None:
    """Raise UserError where a checkpoint is not one of this module."""
    stored = {name: (tuple(value.shape), value.dtype) for name, value in checkpoint["state_dict"].items()}
    own = {name: (tuple(value.shape), value.dtype) for name, value in module.state_dict().items()}
    for name in sorted(stored.keys() | own.keys()):
        if stored.get(name) != own.get(name):
            raise UserError(
                f"the checkpoint {path} is of another network: {name} is {stored.get(name)} there and "
                f"{own.get(name)} here; use the settings it was trained with"
            )


def load_solution(path: Path, problem: Problem, solver: NeuralSolver[Any]) -> Solution:
    """Return the solution that a checkpoint holds.

    Args:
        path: the checkpoint, ``<run folder>/checkpoints/last.ckpt``.
        problem: the problem that was solved.
        solver: the solver, with the settings it was trained with.

    Raises:
        UserError: no checkpoint there, or one of another network.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    module = solver.fresh(problem, 0, real_of(checkpoint["state_dict"]))
    require_match(checkpoint, module, path)
    module.load_state_dict(checkpoint["state_dict"])
    return module.solution(problem, checkpoint["notes"])
