"""Simulations from the prior: the same whoever asks for them, kept on disk, and resumed where a run was killed."""

import fcntl
import hashlib
import inspect
import itertools
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from sciml.errors import SolveError, UserError
from sciml.inference.draws import RandomDraws
from sciml.inference.tape import Traced
from sciml.problem import Table
from sciml.shards import Shards

if TYPE_CHECKING:
    from sciml.views.simulator import Simulator

BLOCK = 1000
"""Rows whose parameters are drawn together; block k is drawn from (seed, split, k) alone."""
FLUSH = 1.0
"""Seconds of work that may wait for the disk: a row that takes longer is written as it ends."""
Split = Literal["train", "test"]


@dataclass(frozen=True)
class Simulations:
    """Simulations from the prior that did not fail.

    Args:
        theta: shape (n, parameters), float64.
        x: shape (n, data), float64.
        asked: simulations made, those that failed among them.
        failures: why each row failed, by its number.
    """

    theta: Tensor
    x: Tensor
    asked: int
    failures: dict[int, str] = field(default_factory=dict)

    def notes(self, observed: np.ndarray) -> dict[str, float | str]:
        """Return what a result should say of its simulations, given the observation (data,) it is scored at.

        ``simulator_calls``; and where there are any: ``excluded``, the share that failed; ``first_failure``;
        ``constant_data`` and ``duplicates``, columns and rows that say nothing; ``outside``, the data that lie
        outside all simulations.
        """
        x = self.x.numpy()
        low, high = x.min(axis=0), x.max(axis=0)
        flags = {
            "excluded": 1 - len(x) / self.asked,
            "constant_data": float((low == high).sum()),
            "duplicates": float(len(x) - len(np.unique(np.c_[self.theta.numpy(), x], axis=0))),
            "outside": float(((observed < low) | (observed > high)).sum()),
        }
        said: dict[str, float | str] = {"simulator_calls": float(self.asked)}
        said |= {name: value for name, value in flags.items() if value}
        if self.failures:
            said["first_failure"] = self.failures[min(self.failures)]
        return said


def simulations(problem: "Simulator", count: int, seed: int, split: Split = "train") -> Simulations:
    """Return the first ``count`` of the simulations of a problem, a seed and a split, making what is not kept yet.

    Args:
        problem: what to simulate; where it keeps simulations is its ``store``.
        count: more than there are parameters.
        seed: of parameters and data.
        split: simulations to train on and to test with are drawn apart.

    Raises:
        UserError: fewer simulations than parameters.
        SolveError: a simulation failed where the problem calls that fatal, or all did, or no datum ever changes.
    """
    size = len(problem.parameters)
    if count <= size:
        raise UserError(f"expected more simulations than {problem.name} has parameters, {size}; got {count}")
    rows = _Rows(count, size, len(problem.data))
    with _opened(problem, seed, split) as kept:
        for shard in kept.read() if kept else ():
            rows.take(shard)
        try:
            for block, missing in rows.missing():
                for made in _made(problem, block, missing, seed, split):
                    rows.take(made)
                    if kept:
                        kept.add(made)
                    if problem.failures == "fatal" and rows.failures:
                        raise SolveError(rows.first_failure(problem))
        finally:
            if kept:
                kept.flush()
    return rows.checked(problem)


Shard = dict[str, np.ndarray]
"""``row`` (rows,), ``theta`` (rows, parameters), ``x`` (rows, data) and ``failure`` (rows,), texts in UTF-8."""


class _Rows:
    """The rows that are wanted, as they come in."""

    def __init__(self, count: int, parameters: int, data: int) -> None:
        self.theta = np.full((count, parameters), np.nan)
        self.x = np.full((count, data), np.nan)
        self.done = np.zeros(count, bool)
        self.failures: dict[int, str] = {}

    def take(self, shard: Shard) -> None:
        here = shard["row"] < len(self.done)
        rows = shard["row"][here]
        self.theta[rows], self.x[rows], self.done[rows] = shard["theta"][here], shard["x"][here], True
        said = zip(rows.tolist(), shard["failure"][here].tolist(), strict=True)
        self.failures |= {row: text.decode() for row, text in said if text}

    def missing(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number of each block that is not whole, and the rows of it that lack."""
        for block in range(-(-len(self.done) // BLOCK)):
            lacking = np.flatnonzero(~self.done[block * BLOCK : (block + 1) * BLOCK])
            if len(lacking):
                yield block, lacking

    def first_failure(self, problem: "Simulator") -> str:
        row = min(self.failures)
        return f"{problem.name}: simulation {row} at {self.theta[row].tolist()} failed: {self.failures[row]}"

    def checked(self, problem: "Simulator") -> Simulations:
        good = np.ones(len(self.done), bool)
        good[list(self.failures)] = False
        if self.failures and (problem.failures == "fatal" or not good.any()):
            raise SolveError(self.first_failure(problem))
        theta, x = self.theta[good], self.x[good]
        if (x == x[0]).all() and len(x) > 1:
            raise SolveError(f"{problem.name}: all {len(x)} simulations returned {x[0][:6].tolist()}; look at simulate")
        return Simulations(torch.from_numpy(theta), torch.from_numpy(x), len(good), self.failures)


def _made(problem: "Simulator", block: int, missing: np.ndarray, seed: int, split: Split) -> Iterator[Shard]:
    """Yield the rows of a block that lack, and others where they come with them."""
    theta, generator = _begun(problem, block, seed, split)
    for found in problem.attempt(theta, RandomDraws(BLOCK, generator), missing):
        said = np.array([text.encode() for text in found.failures], dtype="S")
        rows = block * BLOCK + found.rows
        yield {"row": rows, "theta": theta[found.rows].numpy(), "x": found.x, "failure": said}


def _begun(problem: "Simulator", block: int, seed: int, split: Split) -> tuple[Tensor, torch.Generator]:
    """Return the parameters of a block, shape (rows, parameters), and what its data are drawn with."""
    key = hashlib.sha256(f"{split} {seed} {block}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)
    return problem.prior().sample(BLOCK, generator), generator


def mined(problem: "Simulator", count: int, seed: int, split: Split = "train") -> Iterator[tuple[Tensor, Traced]]:
    """Yield the same simulations in blocks, parameters (rows, parameters) and all that was drawn; nothing is kept.

    Raises:
        UserError: data that depend on the parameters other than through draws.
    """
    for block in range(-(-count // BLOCK)):
        theta, generator = _begun(problem, block, seed, split)
        rows = slice(min(BLOCK, count - block * BLOCK))
        yield theta[rows], problem.mine(theta, generator)[rows]


class _Kept:
    """Simulations on disk; those of a second's work share a shard."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._whole = shards.whole()
        self._waiting: list[Shard] = []
        self._since = time.monotonic()

    def read(self) -> Iterator[Shard]:
        return (self._shards.read(k) for k in self._whole)

    def add(self, made: Shard) -> None:
        self._waiting.append(made)
        if time.monotonic() - self._since >= FLUSH:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            whole = {name: np.concatenate([made[name] for made in self._waiting]) for name in self._waiting[0]}
            number = next(k for k in itertools.count() if k not in self._whole)
            self._shards.write(number, _table(whole))
            self._whole.append(number)
            self._waiting = []
        self._since = time.monotonic()


def _table(shard: Shard) -> Table:
    parameters, data = shard["theta"].shape[1], shard["x"].shape[1]
    axes = {"row": shard["row"], "parameter": np.arange(parameters), "datum": np.arange(data)}
    along = {"theta": ("row", "parameter"), "x": ("row", "datum"), "failure": ("row",)}
    return Table(axes, {name: (names, shard[name]) for name, names in along.items()})


@contextmanager
def _opened(problem: "Simulator", seed: int, split: Split) -> Iterator[_Kept | None]:
    """Yield what is kept of these simulations; a second process that asks for them waits for the first."""
    if problem.store is None:
        yield None
        return
    described = {
        "problem": problem.name,
        "settings": {k: repr(v) for k, v in problem.settings.items() if k not in problem.unrelated},
        "parameters": [[v.name, v.unit] for v in problem.parameters],
        "data": [[v.name, v.unit] for v in problem.data],
        "prior": _fingerprint(problem),
        "program": problem.program,
        "block": BLOCK,
    }
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]
    shards = Shards(Path(problem.store) / f"{problem.name}-{key}" / f"{split}-{seed}")
    shards.claim(described | {"seed": seed, "split": split}, "other simulations")
    with (shards.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system lets go of it whenever this process ends
        yield _Kept(shards)


def _fingerprint(problem: "Simulator") -> str:
    """Return what tells a prior from others: some of its quantiles."""
    return hashlib.sha256(problem.prior().quasirandom(16).numpy().tobytes()).hexdigest()


def source(kind: type, root: type) -> str:
    """Return a checksum of the files, or cells, in which a class and its parents below ``root`` are written."""
    known = hashlib.sha256()
    for parent in kind.__mro__[: kind.__mro__.index(root)]:
        for written in (sys.modules.get(parent.__module__), parent):
            with suppress(OSError, TypeError):
                known.update(inspect.getsource(written).encode())  # pyright: ignore[reportArgumentType]
                break
    return known.hexdigest()
