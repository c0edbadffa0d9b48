"""AC load flow on any power grid, under varying loads, generation, outages and ways of operation."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import torch
from annotated_types import Ge, Interval
from scipy.sparse import csr_array

from sciml.errors import UserError
from sciml.grid.cases import from_pandapower, open_case
from sciml.grid.dataset import Plan, write
from sciml.grid.failures import failing
from sciml.grid.newton_batch import NewtonBatch, outputs, voltages
from sciml.grid.operation import Operation, Sharing
from sciml.grid.powerflow import PowerFlow
from sciml.grid.powergrid import PowerGrid
from sciml.grid.scenarios import Scenarios, Spread, draw, perturbed
from sciml.grid.sensitivity import flow_measure, operating_point
from sciml.grid.topology import coupled
from sciml.parameters import Count, NonNegative
from sciml.problem import Complaint, Table, Variable
from sciml.solution import Solution
from sciml.views.graph import Graph, Way
from sciml.views.pairs import Pairs

from ._reference import Solved, rounding, solved
from ._scores import load_flow_scores, relative
from ._table import load_flow_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandapower import pandapowerNet

_TRAIN, _TEST, _SHIFTED, _WITHHELD, _LINES, _GENERATORS = 0, 1, 2, 3, 4, 5

_LINE = 0.1j
"""Impedance of a line, in p.u."""

Number = Annotated[int, Ge(0)]
Share = Annotated[float, Interval(ge=0, lt=1)]


class Grid(Graph, Pairs):
    """AC load flow on a grid while loads and generation vary and branches are out.

    P_i + jQ_i = V_i Σ_j conj(Y_ij V_j) at every bus i

    Sought is the voltage at every bus, given loads, generation, voltage set-points and the branches in service.
    Solvers train on scenarios with few branches out and are scored on others, with more outages than any training
    scenario had among them; and apart from these on grown loads, without outage. ``flow_error`` is the relative L2
    error of the active flows over all but the grown ones, ``||P - P_ref|| / ||P_ref||``: flows are what a grid is
    operated by, they vanish with no constant, and they ask for differences of angles, which is harder than
    the angles. The reference is Newton-Raphson to a mismatch of ``tolerance``. A scenario in which a bus is cut
    off from the slack, or which has no load flow, is drawn, counted (arrays ``islanded`` and ``unsolved``)
    and set aside.

    A generator that has failed has no power and, with the last at its bus, a set-point of zero. Reactive limits and a
    shared slack change the answer and no input. A busbar coupler is a branch, which is out as often as any other; then
    the substation is two buses.

    Args:
        case: a published case (ieee14, ieee30, ieee57, ieee118, ieee300, pegase1354, rte1888, rte2848,
            pegase2869, rte6470 or pegase9241), or the path of a MATPOWER file (.m) or of a net of pandapower
            that ``pandapower.to_json`` wrote (.json).
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
        generators_out: the most generators that have failed, beside branches; each number up to it is as likely.
        reactive_limits: whether generators keep them, beyond which their voltage is free.
        slack: which regulated buses make up for what is lacking: the slack alone (single), all alike (equal), or
            each by its capacity (capacity), one without limit as the greatest of the others.
        couplers: numbers of the buses that are two busbars with a coupler between, every second branch being at
            the other one; its own flow is not scored.
        train_cases: the grids to train on, named like ``case``, in place of this one, which is then met unseen;
            their scenarios spread as this one's do.
        seed: of the scenarios; those to train on and to score on are drawn apart.
    """

    primary = "flow_error"

    def __init__(
        self,
        case: str = "ieee14",
        train: Annotated[int, Ge(2)] = 1000,
        test: Count = 50,
        load_spread: NonNegative = 0.2,
        common_spread: NonNegative = 0.1,
        generation_spread: NonNegative = 0.1,
        voltage_spread: NonNegative = 0.01,
        train_outages: tuple[Number, ...] = (0, 1),
        test_outages: tuple[Number, ...] = (0, 1, 2),
        withheld: Share = 0.0,
        growth: NonNegative = 0.1,
        persistence: Share = 0.0,
        line_spread: NonNegative = 0.0,
        generators_out: Number = 0,
        reactive_limits: bool = False,
        slack: Sharing = "single",
        couplers: tuple[int, ...] = (),
        train_cases: tuple[str, ...] = (),
        seed: Number = 0,
    ) -> None:
        self.case = case
        self.train = train
        self.test = test
        self.spread = Spread(load_spread, common_spread, generation_spread, voltage_spread, persistence)
        self.train_outages = train_outages
        self.test_outages = test_outages
        self.withheld = withheld
        self.growth = growth
        self.line_spread = line_spread
        self.generators_out = generators_out
        self.operation = Operation(reactive_limits, slack)
        self.couplers = couplers
        self.train_cases = train_cases
        self.seed = seed
        self._given: PowerGrid | None = None

    @classmethod
    def of(cls, net: "pandapowerNet", **settings: Any) -> "Grid":
        """Return the load flow on a net in memory; a run folder cannot name it, a file it can.

        Args:
            net: of pandapower, left as it is.
            settings: of the constructor.

        Raises:
            UserError: the net asks for what is not modelled, or is not sound.
        """
        made = cls(case="a net in memory", **settings)
        made._given = from_pandapower(net)
        return made

    def grid(self) -> PowerGrid:
        """Return the grid in its nominal state.

        Raises:
            UserError: there is no such case, a package is missing, or the grid is not sound.
        """
        grid = self._given or open_case(self.case)
        for number in self.couplers:
            grid = coupled(grid, str(number))
        return grid

    @property
    def trained_on(self) -> tuple[Self, ...]:
        others = [{"case": case, "train_cases": (), "couplers": ()} for case in self.train_cases]
        return tuple(type(self)(**{**self.settings, **other}) for other in others) or (self,)

    @cached_property
    def flow(self) -> PowerFlow:
        """The load flow in float64."""
        grid, rng = self.grid(), np.random.default_rng([self.seed, _LINES])
        return PowerFlow(perturbed(grid, self.line_spread, rng) if self.line_spread else grid)

    @property
    def tolerance(self) -> float:
        """Greatest mismatch of the reference, in p.u."""
        return rounding(self.flow.grid)

    def balance(self, real: torch.dtype = torch.float64) -> PowerFlow:
        return PowerFlow(self.flow.grid, real)

    @property
    def is_plain(self) -> bool:
        return self.operation == Operation() and not self.generators_out

    def answered(self, way: Way) -> Callable[[np.ndarray], np.ndarray]:
        if self.is_plain:
            return super().answered(way)

        def solve(grid: PowerGrid) -> Callable[[np.ndarray], np.ndarray]:
            answer = way(PowerFlow(grid))
            return lambda points: voltages(answer(points))

        return lambda points: outputs(self.operation.run(self.flow.grid, points, solve).voltages)

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

    def divided(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return x and τ, which counts open branches, couplers among them, and buses whose generators are all out.

        Such a bus has the set-point zero; x has the nominal one instead, so that τ alone tells.
        """
        x, tau = super().divided(points)
        if not self.generators_out:
            return x, tau
        others, setpoint = np.split(x, [-len(self.flow.grid.setpoint)], axis=1)
        lost = setpoint == 0
        x = np.hstack([others, np.where(lost, self.flow.grid.setpoint, setpoint)])
        return x, np.hstack([tau, lost[:, 1:]])  # those at the slack never fail

    @property
    def measure(self) -> csr_array:
        """The flows that voltages make; see ``flow_measure``. A coupler counts as a line, not by its own reactance.

        By that an angle between busbars while they are parted would outweigh all else.
        """
        grid, coupler = self.flow.grid, np.arange(len(self.intact)) >= len(self.intact) - len(self.couplers)
        alike = replace(grid, impedance=np.where(coupler, _LINE, grid.impedance))
        return flow_measure(alike, operating_point(PowerFlow(alike)))

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
        drawn = {
            "train": draw(grid, self.spread, self.train_outages, share, [self.seed, _TRAIN], self.unseen),
            "test": draw(grid, self.spread, self.test_outages, self.test, [self.seed, _TEST]),
            "shifted": draw(grid, grown, (0,), self.test, [self.seed, _SHIFTED]),
        }
        rng = np.random.default_rng([self.seed, _GENERATORS])
        return {k: replace(s, inputs=failing(grid, s.inputs, self.generators_out, rng)) for k, s in drawn.items()}

    def scenarios(self, split: Literal["train", "test"]) -> np.ndarray:
        return self.drawn[split].inputs

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        return self._labelled.inputs, self._labelled.outputs

    def record(self, folder: Path, count: int, shard: int, workers: int) -> int:
        if not self.is_plain:
            raise UserError("a dataset holds plain load flows; leave out generators_out, reactive_limits and slack")
        unseen = tuple(self.unseen.tolist())
        plan = Plan(count, self.spread, self.train_outages, shard, self.seed, unseen)
        return write(folder, self.flow.grid, plan, NewtonBatch(self.flow.grid), workers)

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
        found = solved(self.flow, self.drawn[split], self.tolerance, None if self.is_plain else self.operation)
        if split != "shifted" and not len(found.inputs):
            drawn = sum(found.unsolved.values())
            raise UserError(f"none of {drawn} scenarios drawn to {split} has a load flow; lower loads or their spread")
        return found

    def statement(self) -> Iterator[tuple[str, str, str]]:
        yield "power balance", "S_i = V_i Σ_j conj(Y_ij V_j)", r"S_i = V_i \sum_j \overline{Y_{ij} V_j}"

    def branch_flows(self, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Return the active power, in MW, that enters each branch at its first bus, shape (n, branches).

        Args:
            inputs: scenarios, shape (n, inputs).
            outputs: voltages, shape (n, outputs).
        """
        return np.real(self.flow.grid.flows(voltages(outputs), inputs[:, self.structure])[:, 0])

    def mismatch(self, inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Return how far Kirchhoff's law and what operation asks for are missed, in p.u., shape (n, components)."""
        lack = self.operation.lack(self.flow.grid, inputs, voltages(outputs))
        parts = np.stack([np.real(lack), np.imag(lack)], axis=-1)
        return parts[:, self.flow.unknown.numpy()] if self.is_plain else parts.reshape(len(parts), -1)

    def prepare(self) -> None:
        self.reference  # noqa: B018 - cached
        self.shifted  # noqa: B018 - cached

    def score(self, solution: Solution, seed: int = 0) -> dict[str, float]:
        """Return the scores over all test scenarios, and by number of outages (names ending in n0, n1, n2).

        Names ending in n1_unseen are over outages of a branch withheld from training, in shifted over grown loads;
        ``load_flow_scores`` tells what they are.
        """
        known = self.reference
        answer = solution(known.inputs)
        classes = {"": np.full(len(answer), True)} | {f"_n{k}": known.outages == k for k in self.test_outages}
        if len(self.unseen):
            out = (known.inputs[:, self.structure] != self.intact)[:, self.unseen].any(axis=1)
            classes["_n1_unseen"] = (known.outages == 1) & out
        scores = {}
        for suffix, rows in classes.items():
            scores |= self._scores(known.inputs[rows], answer[rows], known.outputs[rows], suffix)
        grown = self.shifted
        return scores | self._scores(grown.inputs, solution(grown.inputs), grown.outputs, "_shifted")

    def _scores(self, inputs: np.ndarray, answer: np.ndarray, truth: np.ndarray, suffix: str) -> dict[str, float]:
        if not len(inputs):
            return {}
        mismatch = self.mismatch(inputs, answer)
        status, couplers = inputs[:, self.structure], len(self.couplers)
        found = load_flow_scores(self.flow.grid, status, answer, truth, mismatch, couplers)
        return {f"{name}{suffix}": value for name, value in found.items()}

    def monitor(self, solution: Solution) -> float:
        known, scored = self.reference, len(self.intact) - len(self.couplers)
        answers = solution(known.inputs), known.outputs
        return relative(*(self.branch_flows(known.inputs, each)[:, :scored] for each in answers))

    def trivial(self) -> Solution:
        """Return the mean of the outputs of training scenarios."""
        constant = self.pairs()[1].mean(axis=0)
        return Solution(self, lambda points: np.tile(constant, (len(points), 1)), {"constant": constant})

    def table(self, solution: Solution) -> Table:
        known = self.reference
        aside = {k: (self.drawn["test"].islanded[k], known.unsolved[k]) for k in self.test_outages}
        answers = solution(known.inputs), known.outputs
        return load_flow_table(self.flow.grid, known.inputs[:, self.structure], *answers, known.outages, aside)

    def figures(self, solution: Solution) -> Iterator[tuple[str, "Figure"]]:
        from ._figures import load_flow_figures

        known = self.reference
        status, answers = known.inputs[:, self.structure], (solution(known.inputs), known.outputs)
        drawn = self.flow.grid, status, *answers, known.outages
        yield from load_flow_figures(*drawn, self.train_outages, len(self.couplers))
