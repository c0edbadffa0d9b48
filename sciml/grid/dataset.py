"""Many certified load flows on disk: shards that are whole or absent, made in parallel, resumed where they stopped."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from sciml.errors import UserError
from sciml.grid.newton_batch import LoadFlows, NewtonBatch, outputs
from sciml.grid.powergrid import PowerGrid
from sciml.grid.scenarios import Spread, states
from sciml.problem import Table, Variable
from sciml.shards import Shards

_SHARDS = 1000
"""Tells their stream of random numbers from others of the same seed."""


@dataclass(frozen=True)
class Plan:
    """What a dataset holds; the same plan gives the same scenarios in whatever order shards are made.

    Args:
        count: scenarios.
        spread: of loads, generation and voltages.
        outages: numbers of branches out, an equal share of each shard's scenarios each.
        shard: scenarios in a file.
        seed: shard k is drawn from it and k alone, apart from whatever else is drawn from the seed.
        withheld: branches that are never out, by their places.
    """

    count: int
    spread: Spread
    outages: tuple[int, ...] = (0, 1, 2)
    shard: int = 10_000
    seed: int = 0
    withheld: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 1 or self.shard < 1 or not self.outages:
            raise UserError(f"expected count, shard and outages of one at least, got {self}")

    @property
    def shards(self) -> int:
        """The number of files."""
        return -(-self.count // self.shard)

    def draw(self, grid: PowerGrid, shard: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the scenarios of a shard, (n, inputs), and how many branches are out in each, (n,)."""
        rng = np.random.default_rng([self.seed, _SHARDS, shard])
        n = min(self.shard, self.count - shard * self.shard)
        each = np.diff(np.arange(len(self.outages) + 1) * n // len(self.outages))
        numbers, withheld = zip(self.outages, each, strict=True), np.array(self.withheld, int)
        parts = [states(grid, self.spread, out, int(m), rng, withheld) for out, m in numbers]
        return np.concatenate(parts), np.repeat(self.outages, each)


def write(folder: Path, grid: PowerGrid, plan: Plan, solver: NewtonBatch, workers: int = 1) -> int:
    """Write the shards of a plan that a folder does not hold yet, and return how many these were.

    Every scenario drawn is a row: one in which a bus is cut off is flagged ``islanded``, one without a load
    flow is not ``converged``; voltages are NaN in the one, as Newton's method left them in the other. A run
    killed at any moment leaves whole shards, and the next goes on from them.

    Args:
        folder: made where there is none.
        grid: the arrays.
        plan: what to draw.
        solver: of this grid.
        workers: shards in the making at once.

    Raises:
        UserError: the folder holds another dataset.
    """
    shards = Shards(Path(folder))
    shards.claim(_description(grid, plan, solver), "a dataset of another plan, grid or tolerance")
    missing = [k for k in range(plan.shards) if not shards.is_whole(k)]

    def make(shard: int) -> None:
        inputs, outages = plan.draw(grid, shard)
        shards.write(shard, _table(grid, inputs, outages, solver.solve(inputs), shard * plan.shard))

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(make, missing))
    return len(missing)


def read(folder: Path) -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays of each shard, in order, once its checksum is found right.

    Raises:
        UserError: there is no dataset, or a shard is missing or damaged.
    """
    shards = Shards(Path(folder))
    plan = (shards.description() or {}).get("plan")
    if plan is None:
        raise UserError(f"{folder} holds no dataset of load flows; write one first")
    for shard in range(-(-plan["count"] // plan["shard"])):
        yield shards.read(shard)


def _description(grid: PowerGrid, plan: Plan, solver: NewtonBatch) -> dict[str, Any]:
    names = {kind: [[v.name, v.unit] for v in getattr(grid, kind)] for kind in ("inputs", "outputs")}
    return {"plan": asdict(plan), "grid": _fingerprint(grid), "tolerance": solver.tolerance, **names}


def _fingerprint(grid: PowerGrid) -> str:
    known = hashlib.sha256()
    for part in (grid, grid.generators):
        for field in fields(part):
            value = getattr(part, field.name)
            known.update(value.tobytes() if isinstance(value, np.ndarray) else b"")
    known.update(f"{grid.base} {grid.slack}".encode())
    return known.hexdigest()


def _table(grid: PowerGrid, inputs: np.ndarray, outages: np.ndarray, found: LoadFlows, first: int) -> Table:
    branches = len(grid.source)
    vm, va = np.split(outputs(found.voltages), 2, axis=1)
    arrays = {
        "given": (("scenario", "quantity"), inputs[:, :-branches]),
        "status": (("scenario", "branch"), inputs[:, -branches:].astype(np.uint8)),
        "outages": (("scenario",), outages.astype(np.uint8)),
        "vm": (("scenario", "bus"), vm),
        "va": (("scenario", "bus"), va),
        "mismatch": (("scenario",), found.mismatch),
        "iterations": (("scenario",), found.iterations.astype(np.int16)),
        "converged": (("scenario",), found.converged.astype(np.uint8)),
        "islanded": (("scenario",), found.islanded.astype(np.uint8)),
    }
    axes = {
        "scenario": first + np.arange(len(inputs)),
        "quantity": np.arange(inputs.shape[1] - branches),
        "branch": np.arange(branches),
        "bus": grid.numbers,
    }
    return Table(axes, arrays, {"va": Variable("va", "degree")})
