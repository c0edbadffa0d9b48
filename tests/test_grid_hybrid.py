"""hybrid: whatever a network proposes, Newton's method certifies."""

import numpy as np
import pytest

import sciml
from problems.grid.grid import Grid
from sciml.errors import UserError
from sciml.grid.newton_batch import NewtonBatch
from sciml.training.settings import Training
from solvers.grid.hybrid import Hybrid

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SHORT = Training(max_steps=3, accelerator="cpu")


@pytest.mark.parametrize("proposer", ["leapnet_physics", "mlp", "gns"])
def test_answers_are_certified_however_poor_the_proposal(proposer: str) -> None:
    problem = Grid(train=60, test=40)
    solution = sciml.solve(problem, Hybrid(proposer), training=SHORT)
    points = problem.reference.inputs
    magnitude, angle = np.split(solution(points), 2, axis=1)
    voltages = magnitude * np.exp(1j * np.deg2rad(angle))
    assert np.abs(problem.flow.grid.mismatch(points, voltages)).max() < 1.1e-8
    exact = NewtonBatch(problem.flow.grid, 1e-11).solve(points).voltages
    assert np.abs(voltages - exact).max() < 1e-6
    assert solution.notes["certified"] == solution.notes["certified_without"] == 1


def test_a_good_proposal_saves_iterations() -> None:
    notes = sciml.solve(Grid(case="ieee118", train=400, test=2), Hybrid(), training=SHORT).notes
    assert isinstance(notes["iterations"], float)
    assert isinstance(notes["iterations_without"], float)
    assert notes["iterations"] < notes["iterations_without"] - 1


def test_islands_come_back_as_nan_and_leave_the_others_alone() -> None:
    problem = Grid(train=60, test=2)
    points = np.tile(problem.flow.grid.nominal, (2, 1))
    points[0, problem.inputs.index(next(v for v in problem.inputs if v.name == "status_line_7_8"))] = 0
    answer = sciml.solve(problem, Hybrid(), training=SHORT)(points)
    assert np.isnan(answer[0]).all()
    assert np.isfinite(answer[1]).all()


def test_only_a_neural_solver_can_propose() -> None:
    with pytest.raises(UserError, match="proposer should be a solver that trains networks, got newton"):
        sciml.solve(Grid(), Hybrid("newton"))
    with pytest.raises(UserError, match="no solver 'leapnte'; did you mean 'leapnet'"):
        sciml.solve(Grid(), Hybrid("leapnte"))


def test_what_is_certified_is_the_balance_alone() -> None:
    with pytest.raises(UserError, match="hybrid refuses grid: its answer keeps more than the balance that Newton"):
        sciml.solve(Grid(reactive_limits=True), Hybrid())
