"""The power grid as arrays: admittances, flows, currents and mismatch follow from them."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from sciml.errors import UserError, did_you_mean
from sciml.problem import Variable

_TOGETHER = 4_000_000
"""Branches looked at in one search for islands; bounds the memory."""


@dataclass(frozen=True)
class Generators:
    """What supplies power at regulated voltage, the slack among them; several may share a bus.

    Args:
        bus: shape (generators,), like all that follow.
        power: active, in MW; the slack's follows from the load flow.
        setpoint: voltage magnitude held, in p.u.
        lowest: active power, in MW.
        highest: active power, in MW.
        least: reactive power, in Mvar.
        most: reactive power, in Mvar.
    """

    bus: np.ndarray
    power: np.ndarray
    setpoint: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    least: np.ndarray
    most: np.ndarray


@dataclass(frozen=True)
class PowerGrid:
    """A connected power grid in its nominal state; buses and branches are counted from zero.

    A branch is a series impedance between two halves of its admittance to earth, behind an ideal transformer
    at its source; negative reactances are series capacitors. Angles count from the slack's.

    Args:
        base: power of one per unit, in MVA.
        numbers: what the buses are called, shape (buses,).
        kilovolts: base voltage of each bus, in kV, shape (buses,).
        source: bus at one end of each branch, shape (branches,).
        target: bus at its other end, shape (branches,).
        impedance: r + jx in p.u., shape (branches,).
        charging: b in p.u., both halves together, shape (branches,).
        conductance: g in p.u. beside it, shape (branches,).
        tap: ratio · exp(j shift), shape (branches,).
        in_service: the branches that are, in the nominal state, shape (branches,), bool.
        shunt: admittance to earth in p.u., shape (buses,).
        loads: the buses with a load, shape (loads,).
        load: P + jQ in MVA, what unregulated generators supply taken off, shape (loads,).
        slack: the bus that makes up for losses.
        generators: of them one at least at the slack.
        left_out: names of buses in service that are not in the grid, being without a way to the slack.
        positions: x and y of the buses in drawings, NaN where unknown, shape (buses, 2); None where all are.

    Raises:
        UserError: an array that is not finite, an impedance of zero, a bus cut off from the slack, or no
            generator at the slack.
    """

    base: float
    numbers: np.ndarray
    kilovolts: np.ndarray
    source: np.ndarray
    target: np.ndarray
    impedance: np.ndarray
    charging: np.ndarray
    conductance: np.ndarray
    tap: np.ndarray
    in_service: np.ndarray
    shunt: np.ndarray
    loads: np.ndarray
    load: np.ndarray
    slack: int
    generators: Generators
    left_out: tuple[str, ...] = ()
    positions: np.ndarray | None = None

    def __post_init__(self) -> None:
        at, named = self.numbers[self.generators.bus], np.array(self.branches)
        for field in ("impedance", "charging", "conductance", "tap"):
            _require_finite(field, getattr(self, field), "branch", named)
        _require_finite("shunt", self.shunt, "bus", self.numbers)
        _require_finite("load", self.load, "bus", self.numbers[self.loads])
        _require_finite("generation", self.generators.power, "bus", at)
        _require_finite("set-point", self.generators.setpoint, "bus", at)
        for field, wrong in (("impedance", self.impedance == 0), ("tap", self.tap == 0)):
            if wrong.any():
                first = named[wrong][0]
                raise UserError(f"branch {first} has {field} zero; merge its buses or give it a small reactance")
        if self.slack not in self.generators.bus:
            raise UserError(f"the slack, bus {self.numbers[self.slack]}, has no generator; add one or move the slack")
        if (off := self.cut_off(self.in_service)).any():
            raise UserError(
                f"{off.sum()} of {len(off)} buses, the first bus {self.numbers[off][0]}, are cut off from the slack;"
                " connect or remove them"
            )

    @cached_property
    def branches(self) -> tuple[str, ...]:
        """Names of the branches: their buses' numbers, and a letter or number from the second in parallel on."""
        seen: Counter[str] = Counter()
        names = []
        for i, j in zip(self.numbers[self.source], self.numbers[self.target], strict=True):
            pair = f"{i}_{j}"
            repeated = seen[pair]
            names.append(pair + ("" if not repeated else chr(ord("a") + repeated) if repeated < 26 else f"_{repeated}"))
            seen[pair] += 1
        return tuple(names)

    def branch(self, name: str) -> int:
        """Return the place of the branch of a name.

        Raises:
            UserError: there is none.
        """
        return _place(name, self.branches, "branch")

    def bus(self, name: str) -> int:
        """Return the place of the bus of a name.

        Raises:
            UserError: there is none.
        """
        return _place(name, tuple(map(str, self.numbers)), "bus")

    @cached_property
    def regulated(self) -> np.ndarray:
        """The buses that hold their voltage, the slack first, shape (regulated,)."""
        others = np.unique(self.generators.bus)
        return np.array([self.slack, *others[others != self.slack]])

    @cached_property
    def setpoint(self) -> np.ndarray:
        """Voltage magnitudes there, by the first generator of each, in p.u., shape (regulated,)."""
        buses, first = np.unique(self.generators.bus, return_index=True)
        return self.generators.setpoint[first[np.searchsorted(buses, self.regulated)]]

    @cached_property
    def generation(self) -> np.ndarray:
        """Active power at all of these but the slack, in MW, shape (regulated - 1,)."""
        return self.at_regulated(self.generators.power)[1:]

    @cached_property
    def capacity(self) -> np.ndarray:
        """The most of it, in MW, infinite where unlimited, shape (regulated - 1,)."""
        return self.at_regulated(self.generators.highest)[1:]

    def at_regulated(self, values: np.ndarray) -> np.ndarray:
        """Return sums by regulated bus, shape (regulated,), of values of the generators, (generators,)."""
        sums = np.zeros(len(self.numbers))
        np.add.at(sums, self.generators.bus, values)
        return sums[self.regulated]

    @property
    def sections(self) -> tuple[int, ...]:
        """Widths of a scenario's sections: loads' P and Q, generation, set-points, status of branches."""
        return len(self.loads), len(self.loads), len(self.generation), len(self.setpoint), len(self.source)

    @cached_property
    def inputs(self) -> tuple[Variable, ...]:
        """What a scenario consists of, section by section."""
        loads, regulated = self.numbers[self.loads], self.numbers[self.regulated]
        return (
            *(Variable(f"p_load_bus{i}", "MW", f"active load at bus {i}") for i in loads),
            *(Variable(f"q_load_bus{i}", "Mvar", f"reactive load at bus {i}") for i in loads),
            *(Variable(f"p_gen_bus{i}", "MW", f"active generation at bus {i}") for i in regulated[1:]),
            *(Variable(f"vm_set_bus{i}", "1", f"voltage set-point at bus {i} in p.u.") for i in regulated),
            *(Variable(f"status_line_{b}", "1", f"1 while branch {b} is in service, else 0") for b in self.branches),
        )

    @cached_property
    def outputs(self) -> tuple[Variable, ...]:
        """What a load flow finds: voltage magnitudes in p.u., then angles in degrees."""
        return (
            *(Variable(f"vm_bus{i}", "1", f"voltage magnitude at bus {i} in p.u.") for i in self.numbers),
            *(Variable(f"va_bus{i}", "degree", f"voltage angle at bus {i}") for i in self.numbers),
        )

    @property
    def nominal(self) -> np.ndarray:
        """The scenario of the nominal state, shape (inputs,)."""
        return np.concatenate(
            [np.real(self.load), np.imag(self.load), self.generation, self.setpoint, self.in_service.astype(float)]
        )

    @cached_property
    def admittances(self) -> np.ndarray:
        """Y of each branch in service, (I_source, I_target) = Y (V_source, V_target) in p.u., (branches, 2, 2)."""
        series = 1 / self.impedance
        own = series + 0.5 * (self.conductance + 1j * self.charging)
        rows = [[own / abs(self.tap) ** 2, -series / self.tap.conj()], [-series / self.tap, own]]
        return np.moveaxis(np.array(rows), -1, 0)

    def admittance(self, status: np.ndarray) -> csr_array:
        """Return the bus admittance matrix Y, I = Y V in p.u., for one status, shape (branches,)."""
        i, j, buses = self.source, self.target, np.arange(len(self.numbers))
        entries = (self.admittances * status[:, None, None]).reshape(-1, 4).T.ravel()
        rows, columns = np.r_[i, i, j, j, buses], np.r_[i, j, i, j, buses]
        return csr_array(coo_array((np.r_[entries, self.shunt], (rows, columns)), (len(buses), len(buses))))

    def flows(self, voltages: np.ndarray, status: np.ndarray) -> np.ndarray:
        """Return P + jQ in MVA that enters each branch at its source and at its target, shape (n, 2, branches).

        Args:
            voltages: complex, in p.u., shape (n, buses).
            status: of the branches, shape (n, branches).
        """
        ends, currents = self._ends(voltages, status)
        return self.base * ends * currents.conj()

    def currents(self, voltages: np.ndarray, status: np.ndarray) -> np.ndarray:
        """Return the magnitudes of the currents at source and target of each branch, in A, (n, 2, branches)."""
        per_unit = 1e3 * self.base / (np.sqrt(3) * self.kilovolts[np.stack([self.source, self.target])])
        return per_unit * np.abs(self._ends(voltages, status)[1])

    def _ends(self, voltages: np.ndarray, status: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return voltages and currents at source and target of each branch, in p.u., (n, 2, branches)."""
        ends = voltages[:, np.stack([self.source, self.target])]
        return ends, np.einsum("bij,njb->nib", self.admittances, ends) * status[:, None]

    def lack(self, inputs: np.ndarray, voltages: np.ndarray) -> np.ndarray:
        """Return what flows off each bus beyond what is supplied, P + jQ in p.u., shape (n, buses).

        Where a generator holds the voltage this is its reactive power, at the slack the active power also.

        Args:
            inputs: scenarios, shape (n, inputs).
            voltages: complex, in p.u., shape (n, buses).
        """
        p_load, q_load, generation, _, status = self.split(inputs)
        lack = voltages * (self.shunt * voltages).conj()
        lack[:, self.loads] += (p_load + 1j * q_load) / self.base
        lack[:, self.regulated[1:]] -= generation / self.base
        return lack + self.at_buses(self.flows(voltages, status)) / self.base

    def at_buses(self, flows: np.ndarray) -> np.ndarray:
        """Return what flows off each bus into branches, shape (n, buses), of flows like ``flows``."""
        ends = np.r_[self.source, self.target]
        sums = csr_array((np.ones(len(ends)), (ends, np.arange(len(ends)))), (len(self.numbers), len(ends)))
        return (sums @ flows.reshape(len(flows), -1).T).T

    def mismatch(self, inputs: np.ndarray, voltages: np.ndarray) -> np.ndarray:
        """Return ``lack`` where no generator makes up for it, shape (n, buses)."""
        lack = self.lack(inputs, voltages)
        lack[:, self.regulated] = np.real(lack[:, self.regulated])
        lack[:, self.slack] = 0
        return lack

    def split(self, inputs: np.ndarray) -> list[np.ndarray]:
        """Return the sections of scenarios, shape (n, inputs), each of shape (n, width)."""
        return np.split(inputs, np.cumsum(self.sections)[:-1], axis=1)

    def cut_off(self, status: np.ndarray) -> np.ndarray:
        """Return the buses with no way to the slack over branches in service, shape (buses,), bool."""
        return ~self._islands(status[None] != 0)[0]

    def islanded(self, status: np.ndarray) -> np.ndarray:
        """Return in which scenarios a bus is cut off from the slack, shape (n,), bool.

        Each distinct set of outages is looked at once.

        Args:
            status: of the branches, zero when out, shape (n, branches).
        """
        present = status != 0
        _, first, same = np.unique(np.packbits(present, axis=1), axis=0, return_index=True, return_inverse=True)
        together = max(1, _TOGETHER // max(1, present.shape[1]))
        parts = [present[first[k : k + together]] for k in range(0, len(first), together)]
        found = [~self._islands(part).all(axis=1) for part in parts]
        return np.concatenate([*found, np.zeros(0, bool)])[same.ravel()]

    def _islands(self, present: np.ndarray) -> np.ndarray:
        """Return which buses are connected to the slack, (n, buses), for branches present, (n, branches), bool."""
        n, buses = len(present), len(self.numbers)
        scenario, branch = present.nonzero()
        ends = self.source[branch] + buses * scenario, self.target[branch] + buses * scenario
        graph = coo_array((np.ones(len(scenario), np.int8), ends), (n * buses, n * buses))
        island = connected_components(graph, directed=False)[1].reshape(n, buses)
        return island == island[:, [self.slack]]


def _require_finite(field: str, values: np.ndarray, kind: str, names: np.ndarray) -> None:
    if (wrong := ~np.isfinite(values)).any():
        raise UserError(f"the {field} at {kind} {names[wrong][0]} is {values[wrong][0]}; expected a finite number")


def _place(name: str, known: tuple[str, ...], kind: str) -> int:
    if name not in known:
        raise UserError(f"no {kind} {name!r}{did_you_mean(name, known)} (there are {len(known)}, the first {known[0]})")
    return known.index(name)
