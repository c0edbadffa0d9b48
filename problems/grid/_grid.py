"""AC load flow on a power grid, under varying loads, generation and outages."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Interval
from scipy.sparse import csr_array, vstack

from sciml.grid.balance import newton
from sciml.grid.powerflow import PowerFlow
from sciml.grid.powergrid import PowerGrid
from sciml.grid.scenarios import Scenarios, Spread, draw, perturbed
from sciml.grid.sensitivity import operating_point
from sciml.parameters import Count, NonNegative
from sciml.problem import Complaint, Table, Variable
from sciml.solution import Solution
from sciml.views.graph import Graph
from sciml.views.pairs import Pairs

from ._grid_variables import VARIABLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRAIN, _TEST, _SHIFTED, _WITHHELD, _LINES = 0, 1, 2, 3, 4

Outages = tuple[Annotated[int, Ge(0)], ...]
Share = Annotated[float, Interval(ge=0, lt=1)]


@dataclass(frozen=True)
class Solved:
    """Scenarios and their load flow.

    Args:
        inputs: shape (n, inputs).
        outages: number of branches out, shape (n,).
        outputs: of Newton-Raphson, shape (n, outputs).
        unsolved: by number of outages, the scenarios set aside because Newton-Raphson did not converge.
    """

    inputs: np.ndarray
    outages: np.ndarray
    outputs: np.ndarray
    unsolved: dict[int, int]


class LoadFlow(Graph, Pairs):
    """Find the voltage at every bus, given loads, generation, voltage set-points and the branches in service.

    Solvers train on scenarios with few branches out and are scored on others, with more outages than any training
    scenario had among them; and apart from these on grown loads, without outage. ``flow_error`` is the relative L2
    error of the active flows over all but the grown ones, ``||P - P_ref|| / ||P_ref||``: flows are what a grid is
    operated by, they vanish with no constant, and they ask for differences of angles, which is harder than
    the angles. The reference is Newton-Raphson to a mismatch of ``tolerance``. A scenario in which a bus is cut
    off from the slack, or which has no load flow, is drawn, counted (arrays ``islanded`` and ``unsolved``)
    and set aside.

    Args:
        train: scenarios to train on.
        test: scenarios to score on, for each number of outages.
        load_spread: standard deviation of the logarithm of each load.
        common_spread: standard deviation of the logarithm of a factor common to all loads and generators.
        generation_spread: standard deviation of each generator's power, as a fraction of its capacity.
        voltage_spread: standard deviation of each voltage set-point, in p.u.
        train_outages: numbers of branches out in training, an equal share of scenarios each.
        test_outages: numbers of branches out in the scenarios to score on.
        withheld: share of the branches that are never out in training, so that scores on an unseen outage of
            one stand beside those on any.
        growth: by how much the shifted scenarios' loads and generation exceed the nominal ones, as a fraction.
        persistence: correlation of the logarithms of loads with those of the scenario before.
        line_spread: standard deviation of the logarithm of each branch's r, x and b, drawn once.
        seed: of the scenarios; those to train on and to score on are drawn apart.
    """

    primary = "flow_error"
    tolerance: ClassVar = 1e-12
    """Greatest mismatch of the reference, in p.u."""

    def __init__(
        self,
        train: Annotated[int, Ge(2)] = 10000,
        test: Count = 200,
        load_spread: NonNegative = 0.2,
        common_spread: NonNegative = 0.1,
        generation_spread: NonNegative = 0.1,
        voltage_spread: NonNegative = 0.01,
        train_outages: Outages = (0, 1),
        test_outages: Outages = (0, 1, 2),
        withheld: Share = 0.0,
        growth: NonNegative = 0.1,
        persistence: Share = 0.0,
        line_spread: NonNegative = 0.0,
        seed: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.train = train
        self.test = test
        self.spread = Spread(load_spread, common_spread, generation_spread, voltage_spread, persistence)
        self.train_outages = train_outages
        self.test_outages = test_outages
        self.withheld = withheld
        self.growth = growth
        self.line_spread = line_spread
        self.seed = seed

    @abstractmethod
    def grid(self) -> PowerGrid:
        """Return the grid in its nominal state."""

    @cached_property
    def flow(self) -> PowerFlow:
        """The load flow in float64."""
        grid, rng = self.grid(), np.random.default_rng([self.seed, _LINES])
        return PowerFlow(perturbed(grid, self.line_spread, rng) if self.line_spread else grid)

    def balance(self, real: torch.dtype = torch.float64) -> PowerFlow:
        return PowerFlow(self.flow.grid, real)

    @property
    def inputs(self) -> tuple[Variable, ...]:
        return self.flow.grid.inputs

    @property
    def outputs(self) -> tuple[Variable, ...]:
        return self.flow.grid.outputs

    def complaints(self) -> Iterator[Complaint]:
        if left := self.flow.grid.left_out:
            shown = ", ".join(left[:3]) + (" ..." if len(left) > 3 else "")
            yield Complaint(f"{len(left)} buses without a way to the slack are left out ({shown})", fatal=False)

    @property
    def structure(self) -> np.ndarray:
        return np.arange(len(self.inputs)) >= len(self.inputs) - len(self.intact)

    @property
    def intact(self) -> np.ndarray:
        return self.flow.grid.in_service.astype(float)

    @property
    def measure(self) -> csr_array:
        """The flows at both ends of each branch, as shares of the nominal ones, to first order in the voltages."""
        grid, point = self.flow.grid, operating_point(self.flow)
        present, width = grid.in_service, 2 * len(grid.numbers)
        i, j = grid.source[present], grid.target[present]
        angle, at_i, at_j = np.moveaxis((point.derivative / point.scale[..., None])[present], -1, 0)
        values = np.stack([np.deg2rad(1) * angle, -np.deg2rad(1) * angle, at_i, at_j], axis=-1).ravel()
        columns = np.repeat(np.stack([width // 2 + i, width // 2 + j, i, j], axis=-1), 2, axis=0).ravel()
        flows = csr_array((values, columns, np.arange(0, len(values) + 1, 4)), shape=(len(values) // 4, width))
        slack = np.eye(1, width, width // 2 + grid.slack)  # with which no shift of all angles goes unseen
        return csr_array(vstack([flows.real, flows.imag, csr_array(slack)]))

    @cached_property
    def unseen(self) -> np.ndarray:
        """The branches that are never out in training, by their places."""
        branches = np.random.default_rng([self.seed, _WITHHELD]).permutation(len(self.intact))
        return np.sort(branches[: round(self.withheld * len(branches))])

    @cached_property
    def drawn(self) -> dict[str, Scenarios]:
        """The scenarios of each split."""
        grid, share = self.flow.grid, max(1, self.train // len(self.train_outages))
        grown = replace(self.spread, growth=self.growth)
        return {
            "train": draw(grid, self.spread, self.train_outages, share, [self.seed, _TRAIN], self.unseen),
            "test": draw(grid, self.spread, self.test_outages, self.test, [self.seed, _TEST]),
            "shifted": draw(grid, grown, (0,), self.test, [self.seed, _SHIFTED]),
        }

    def scenarios(self, split: Literal["train", "test"]) -> np.ndarray:
        return self.drawn[split].inputs

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        return self._labelled.inputs, self._labelled.outputs

    @cached_property
    def _labelled(self) -> Solved:
        return self._solved("train")

    @cached_property
    def reference(self) -> Solved:
        """The scenarios on which solutions are scored, with their load flow."""
        return self._solved("test")

    @cached_property
    def shifted(self) -> Solved:
        """Scenarios of grown loads, with their load flow."""
        return self._solved("shifted")

    def _solved(self, split: str) -> Solved:
        inputs, outages = self.drawn[split].inputs, self.drawn[split].outages
        found = newton(self.flow, torch.from_numpy(inputs), self.tolerance, linear=True)
        done = found.converged.numpy()
        unsolved = {int(k): int((~done[outages == k]).sum()) for k in np.unique(outages)}
        return Solved(inputs[done], outages[done], self.flow.outputs(found.state).numpy()[done], unsolved)

    def statement(self) -> Iterator[tuple[str, str, str]]:
        yield "power balance", "S_i = V_i Σ_j conj(Y_ij V_j)", r"S_i = V_i \sum_j \overline{Y_{ij} V_j}"

    def branch_flows(self, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Return the active power, in MW, that enters each branch at its first bus, shape (n, branches).

        Args:
            inputs: scenarios, shape (n, inputs).
            outputs: voltages, shape (n, outputs).
        """
        given = self.flow.read(torch.from_numpy(inputs))
        p, _ = self.flow.flows(self.flow.state(torch.from_numpy(outputs)), given)
        return p.numpy()[:, : len(self.intact)] * self.flow.grid.base

    def mismatch(self, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Return how far Kirchhoff's law is missed, in p.u., shape (n, unknown components)."""
        given = self.flow.read(torch.from_numpy(inputs))
        lack = self.flow.imbalance(self.flow.state(torch.from_numpy(outputs)), given)
        return lack[:, self.flow.unknown].numpy()

    def prepare(self) -> None:
        self.reference  # noqa: B018 - cached
        self.shifted  # noqa: B018 - cached

    def score(self, solution: Solution, seed: int = 0) -> dict[str, float]:
        """Return the scores over all test scenarios, and by number of outages (names ending in n0, n1, n2).

        ``flow_error`` (relative L2), ``flow_error_mw`` (mean absolute, MW), ``vm_error`` (root mean square,
        p.u.), ``va_error`` (root mean square, degrees), ``mismatch_max`` and ``mismatch_mean`` (p.u.). Names
        ending in n1_unseen are over outages of a branch withheld from training, in shifted over grown loads.
        """
        known = self.reference
        answer = solution(known.inputs)
        classes = {"": np.full(len(answer), True)} | {f"_n{k}": known.outages == k for k in self.test_outages}
        if len(self.unseen):
            out = (known.inputs[:, self.structure] != self.intact)[:, self.unseen].any(axis=1)
            classes["_n1_unseen"] = (known.outages == 1) & out
        scores = {}
        for suffix, rows in classes.items():
            scores |= self._errors(known.inputs[rows], answer[rows], known.outputs[rows], suffix)
        grown = self.shifted
        return scores | self._errors(grown.inputs, solution(grown.inputs), grown.outputs, "_shifted")

    def _errors(self, inputs: np.ndarray, answer: np.ndarray, truth: np.ndarray, suffix: str) -> dict[str, float]:
        if not len(inputs):
            return {}
        flows = self.branch_flows(inputs, truth)
        flow_error = self.branch_flows(inputs, answer) - flows
        vm_error, va_error = np.split(answer - truth, 2, axis=1)
        mismatch = np.abs(self.mismatch(inputs, answer))
        return {
            f"flow_error{suffix}": float(np.linalg.norm(flow_error) / np.linalg.norm(flows)),
            f"flow_error_mw{suffix}": float(np.abs(flow_error).mean()),
            f"vm_error{suffix}": float(np.sqrt((vm_error**2).mean())),
            f"va_error{suffix}": float(np.sqrt((va_error**2).mean())),
            f"mismatch_max{suffix}": float(mismatch.max()),
            f"mismatch_mean{suffix}": float(mismatch.mean()),
        }

    def monitor(self, solution: Solution) -> float:
        known = self.reference
        return self._errors(known.inputs, solution(known.inputs), known.outputs, "")["flow_error"]

    def trivial(self) -> Solution:
        """Return the mean of the outputs of training scenarios."""
        constant = self.pairs()[1].mean(axis=0)
        return Solution(self, lambda points: np.tile(constant, (len(points), 1)), {"constant": constant})

    def table(self, solution: Solution) -> Table:
        known, grid = self.reference, self.flow.grid
        scenario, bus, branch = ("scenario",), ("scenario", "bus"), ("scenario", "branch")
        arrays = {"lines_out": (scenario, known.outages)}
        for suffix, outputs in (("", solution(known.inputs)), ("_reference", known.outputs)):
            vm, va = np.split(outputs, 2, axis=1)
            flow = self.branch_flows(known.inputs, outputs)
            arrays |= {f"vm{suffix}": (bus, vm), f"va{suffix}": (bus, va), f"flow{suffix}": (branch, flow)}
        status = known.inputs[:, self.structure]
        arrays |= {
            "status": (branch, status),
            "from_bus": (("branch",), grid.numbers[grid.source]),
            "to_bus": (("branch",), grid.numbers[grid.target]),
            "islanded": (("outages",), np.array([self.drawn["test"].islanded[k] for k in self.test_outages])),
            "unsolved": (("outages",), np.array([known.unsolved[k] for k in self.test_outages])),
        }
        axes = {
            "scenario": np.arange(len(status)),
            "bus": grid.numbers,
            "branch": np.arange(1, len(grid.source) + 1),
            "outages": np.array(self.test_outages),
        }
        return Table(axes, arrays, VARIABLES)

    def figures(self, solution: Solution) -> Iterator[tuple[str, "Figure"]]:
        from ._grid_figures import errors_figure, flows_figure

        known = self.reference
        flows = self.branch_flows(known.inputs, solution(known.inputs))
        reference = self.branch_flows(known.inputs, known.outputs)
        yield "flows", flows_figure(flows, reference, known.outages, self.train_outages)
        yield "outages", errors_figure(flows, reference, known.outages, self.train_outages)
