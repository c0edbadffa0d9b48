"""Random scenarios of a power grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sciml.grid.powerflow import PowerFlow
from sciml.grid.powergrid import PowerGrid


@dataclass(frozen=True)
class Spread:
    """How far scenarios spread about the nominal state; zero keeps a quantity nominal.

    Args:
        load: standard deviation of the logarithm of each load, independent of the others.
        common: standard deviation of the logarithm of a factor common to all loads and generators.
        generation: standard deviation of each generator's power, as a fraction of its capacity.
        voltage: standard deviation of each voltage set-point, in p.u.
    """

    load: float
    common: float
    generation: float
    voltage: float


@dataclass(frozen=True)
class Scenarios:
    """Scenarios in which every bus is connected to the slack.

    Args:
        inputs: shape (n, inputs).
        outages: number of branches out, shape (n,).
        islanded: by number of outages, the scenarios drawn and set aside because a bus was cut off.
    """

    inputs: np.ndarray
    outages: np.ndarray
    islanded: dict[int, int]


def draw(flow: PowerFlow, spread: Spread, outages: Sequence[int], count: int, seed: Sequence[int]) -> Scenarios:
    """Draw ``count`` scenarios for each number of outages, those with islands set aside and replaced.

    Active and reactive loads are lognormal with the nominal mean; generation is normal, kept within zero and
    capacity; each set of outages is uniform among the branches.

    Args:
        flow: of the grid, in float64.
        spread: of loads, generation and voltages.
        outages: numbers of branches out.
        count: scenarios for each.
        seed: the one source of randomness.
    """
    rng = np.random.default_rng(seed)
    kept, islanded = [], {}
    for out in outages:
        found: list[np.ndarray] = []
        drawn = 0
        while sum(map(len, found)) < count:
            inputs = _states(flow.grid, spread, out, count, rng)
            found.append(inputs[flow.solvable(flow.read(torch.from_numpy(inputs))).numpy()])
            drawn += count
        whole = np.concatenate(found)
        islanded[out] = drawn - len(whole)
        kept.append(whole[:count])
    return Scenarios(np.concatenate(kept), np.repeat(outages, count), islanded)


def _states(grid: PowerGrid, spread: Spread, out: int, count: int, rng: np.random.Generator) -> np.ndarray:
    loads, _, generators, regulated, branches = grid.sections
    common = _lognormal(rng, spread.common, (count, 1))
    p_load = np.real(grid.load) * common * _lognormal(rng, spread.load, (count, loads))
    q_load = np.imag(grid.load) * common * _lognormal(rng, spread.load, (count, loads))
    wanted = grid.generation * common + spread.generation * grid.capacity * rng.standard_normal((count, generators))
    setpoint = grid.setpoint + spread.voltage * rng.standard_normal((count, regulated))
    status = np.ones((count, branches))
    if out:
        cut = rng.permuted(np.tile(np.arange(branches), (count, 1)), axis=1)[:, :out]
        np.put_along_axis(status, cut, 0.0, axis=1)
    return np.concatenate([p_load, q_load, np.clip(wanted, 0, grid.capacity), setpoint, status], axis=1)


def _lognormal(rng: np.random.Generator, deviation: float, shape: tuple[int, int]) -> np.ndarray:
    return np.exp(deviation * rng.standard_normal(shape) - deviation**2 / 2)
