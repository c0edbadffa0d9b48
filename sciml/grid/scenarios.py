"""Random scenarios of a power grid."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import lfilter

from sciml.errors import UserError
from sciml.grid.powergrid import PowerGrid

_HOPELESS = 0.01
"""The share of drawn scenarios without islands below which no more are drawn."""


@dataclass(frozen=True)
class Spread:
    """How far scenarios spread about the nominal state; zero keeps a quantity nominal.

    Args:
        load: standard deviation of the logarithm of each load, independent of the others.
        common: standard deviation of the logarithm of a factor common to all loads and generators.
        generation: standard deviation of each generator's power, as a fraction of its capacity, or of its
            nominal power where that is unlimited.
        voltage: standard deviation of each voltage set-point, in p.u.
        persistence: correlation of the logarithms with those of the scenario before, which makes of scenarios
            a series in time; their distribution stays.
        growth: by how much all loads, and the generators with them, exceed the nominal ones, as a fraction.
    """

    load: float
    common: float
    generation: float
    voltage: float
    persistence: float = 0.0
    growth: float = 0.0


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


def draw(
    grid: PowerGrid,
    spread: Spread,
    outages: Sequence[int],
    count: int,
    seed: Sequence[int],
    withheld: np.ndarray | None = None,
) -> Scenarios:
    """Draw ``count`` scenarios for each number of outages, those with islands set aside and replaced.

    Args:
        grid: the arrays.
        spread: of loads, generation and voltages.
        outages: numbers of branches out.
        count: scenarios for each.
        seed: the one source of randomness.
        withheld: branches that are never out, by their places.

    Raises:
        UserError: there are too few branches, or nearly every set of outages cuts a bus off.
    """
    rng = np.random.default_rng(seed)
    kept, islanded = [], {}
    for out in outages:
        found: list[np.ndarray] = []
        drawn = 0
        while sum(map(len, found)) < count:
            inputs = states(grid, spread, out, count, rng, withheld)
            found.append(inputs[~grid.islanded(inputs[:, -len(grid.source) :])])
            drawn += count
            if drawn > 200 and sum(map(len, found)) < _HOPELESS * drawn:
                raise UserError(
                    f"nearly every outage of {out} branches cuts a bus off; ask for fewer outages of this grid"
                )
        whole = np.concatenate(found)
        islanded[out] = drawn - len(whole)
        kept.append(whole[:count])
    return Scenarios(np.concatenate(kept), np.repeat(outages, count), islanded)


def states(
    grid: PowerGrid,
    spread: Spread,
    out: int,
    count: int,
    rng: np.random.Generator,
    withheld: np.ndarray | None = None,
) -> np.ndarray:
    """Draw scenarios with ``out`` branches out, those with islands among them, shape (count, inputs).

    Active and reactive loads are lognormal with the nominal mean; generation is normal, kept within zero and
    capacity; each set of outages is uniform among the branches in service.
    """
    loads, _, generators, regulated, _ = grid.sections
    growth = 1 + spread.growth
    common = growth * _lognormal(rng, spread, spread.common, (count, 1))
    p_load = np.real(grid.load) * common * _lognormal(rng, spread, spread.load, (count, loads))
    q_load = np.imag(grid.load) * common * _lognormal(rng, spread, spread.load, (count, loads))
    nominal = grid.generation
    unit = np.where(np.isfinite(grid.capacity), grid.capacity, np.abs(nominal))
    wanted = nominal * common + spread.generation * unit * rng.standard_normal((count, generators))
    generation = np.clip(wanted, np.minimum(0, nominal), np.maximum(grid.capacity, nominal))
    setpoint = grid.setpoint + spread.voltage * rng.standard_normal((count, regulated))
    status = np.tile(grid.in_service.astype(float), (count, 1))
    if out:
        able = np.setdiff1d(np.flatnonzero(grid.in_service), [] if withheld is None else withheld)
        if len(able) < out:
            raise UserError(f"{len(able)} branches may be out, {out} are asked for; ask for fewer outages")
        cut = rng.permuted(np.tile(able, (count, 1)), axis=1)[:, :out]
        np.put_along_axis(status, cut, 0.0, axis=1)
    return np.concatenate([p_load, q_load, generation, setpoint, status], axis=1)


def perturbed(grid: PowerGrid, deviation: float, rng: np.random.Generator) -> PowerGrid:
    """Return a grid of other lines: r, x and b of each branch times lognormal factors of mean one.

    Args:
        grid: the arrays.
        deviation: standard deviation of the factors' logarithm.
        rng: the one source of randomness.
    """
    r, x, b = np.exp(deviation * rng.standard_normal((3, len(grid.source))) - deviation**2 / 2)
    impedance = r * np.real(grid.impedance) + 1j * x * np.imag(grid.impedance)
    return replace(grid, impedance=impedance, charging=b * grid.charging)


def _lognormal(rng: np.random.Generator, spread: Spread, deviation: float, shape: tuple[int, int]) -> np.ndarray:
    normal = rng.standard_normal(shape)
    if spread.persistence:  # the first scenario is drawn from the stationary distribution
        fresh = np.sqrt(1 - spread.persistence**2)
        normal[1:] *= fresh
        normal = np.asarray(lfilter([1.0], [1.0, -spread.persistence], normal, axis=0))
    return np.exp(deviation * normal - deviation**2 / 2)
