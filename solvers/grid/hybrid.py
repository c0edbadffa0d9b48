"""A network proposes, Newton's method finishes and certifies."""

import time
from collections.abc import Callable, Mapping

import numpy as np

from sciml.errors import UserError
from sciml.grid.newton_batch import NewtonBatch, outputs, voltages
from sciml.neural import NeuralSolver
from sciml.parameters import Positive
from sciml.registry import find
from sciml.solution import Solution
from sciml.solver import Context, Solver, misfit
from sciml.views.graph import Graph

from ._on_load_flow import load_flow, no_load_flow

_TIMED = 1000
"""Scenarios on which the notes are measured."""


class Hybrid(Solver[Graph]):
    """Starts Newton's method from what a neural solver proposes, until every scenario is certified.

    J(x_k) (x_{k+1} - x_k) = -F(x_k),  x_0 from the network

    The notes say whether that pays: mean Newton iterations and microseconds of the processor for each scenario, the
    network's own among them, beside those of the same batched Newton from the nominal voltages (names ending in
    ``_without``), on training scenarios one batch at a time; and how many of these are certified.

    Args:
        proposer: name of a neural solver, which trains with its default parameters.
        tolerance: greatest mismatch at which a scenario is certified, in p.u.
    """

    kind = "neural"
    needs = Graph
    precision_default = "32"
    transfers = True  # its proposer is asked, too

    def __init__(self, proposer: str = "leapnet_physics", tolerance: Positive = 1e-8) -> None:
        self.proposer = proposer
        self.tolerance = tolerance

    @property
    def network(self) -> NeuralSolver:
        """The untrained proposer.

        Raises:
            UserError: there is no such solver, or it trains no networks.
        """
        made = find("solver", self.proposer).load()
        if not issubclass(made, NeuralSolver):
            raise UserError(f"hybrid: proposer should be a solver that trains networks, got {self.proposer}")
        return made()

    def refuses(self, problem: Graph) -> str | None:
        operated = None if problem.is_plain else "its answer keeps more than the balance that Newton certifies"
        return no_load_flow(problem) or operated or misfit(problem, self.network)

    def solve(self, problem: Graph, context: Context) -> Solution:
        proposed = self.network.solve(problem, context)
        batch = self._batch(problem)
        inputs = problem.scenarios("train")[-_TIMED:]
        propose = _proposal(proposed.function, batch.grid.slack)
        notes: dict[str, float | str] = {}
        for suffix, start in (("", propose), ("_without", lambda points: None)):
            batch.solve(inputs, start(inputs))  # compiles
            begun = time.process_time()
            found = batch.solve(inputs, start(inputs))
            notes[f"microseconds{suffix}"] = 1e6 * (time.process_time() - begun) / len(inputs)
            notes[f"iterations{suffix}"] = float(found.iterations[~found.islanded].mean())
            notes[f"certified{suffix}"] = float(found.converged.mean())
        return self._finished(problem, batch, proposed, {**proposed.notes, **notes})

    def restore(self, problem: Graph, state: Mapping[str, np.ndarray]) -> Solution:
        return self._finished(problem, self._batch(problem), self.network.restore(problem, state), {})

    def _batch(self, problem: Graph) -> NewtonBatch:
        return NewtonBatch(load_flow(problem).grid, self.tolerance)

    def _finished(
        self, problem: Graph, batch: NewtonBatch, proposed: Solution, notes: Mapping[str, float | str]
    ) -> Solution:
        propose = _proposal(proposed.function, batch.grid.slack)

        def function(points: np.ndarray) -> np.ndarray:
            return outputs(batch.solve(points, propose(points)).voltages)

        return Solution(problem, function, proposed.state, notes)


def _proposal(function: Callable[[np.ndarray], np.ndarray], slack: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the complex voltages in p.u., (n, buses), of a function's outputs, angles counted from the slack's."""

    def propose(points: np.ndarray) -> np.ndarray:
        magnitude, angle = np.split(function(points), 2, axis=1)
        return voltages(np.hstack([magnitude, angle - angle[:, [slack]]]))

    return propose
