"""Networks on grids that they were not trained on."""

import numpy as np
import pytest
import torch

import sciml
from problems.grid.grid import Grid
from sciml.configuration.choices import choose
from sciml.grid.balance import newton
from sciml.grid.factorised import Factorised
from sciml.neural import NeuralSolver
from sciml.solver import misfit
from sciml.training.settings import Training
from solvers.grid._on_balance import Round
from solvers.grid.dc import DC
from solvers.grid.dss import DSS
from solvers.grid.gns import GNS
from solvers.grid.hybrid import Hybrid
from solvers.grid.leapnet import LeapNet
from solvers.grid.leapnet_physics import LeapNetPhysics

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SHORT = Training(accelerator="cpu", max_steps=3)


@pytest.fixture(scope="module")
def problem() -> Grid:
    return Grid(case="ieee30", train_cases=("ieee14",), train=60, test=20)


def test_the_layer_solves_by_the_jacobian_and_leaves_islands_alone(problem: Grid) -> None:
    flow = problem.flow
    inputs = torch.from_numpy(problem.scenarios("test")[[0, 30, 50, 50]])
    inputs[-1, problem.structure] = 0
    given = flow.read(inputs)
    start = flow.start(given)
    solve, imbalance = Factorised(flow, start, given), flow.imbalance(start, given)
    change = solve(imbalance)
    pattern, values = flow.jacobian(start, given)
    for row in range(3):
        dense = torch.zeros(pattern.size, pattern.size, dtype=torch.double)
        dense[pattern.rows, pattern.columns] = values[row]
        expected = -torch.linalg.solve(dense, imbalance[row, flow.unknown])
        torch.testing.assert_close(change[row, flow.unknown], expected, rtol=1e-9, atol=1e-12)
    assert (change[:3, ~flow.unknown] == 0).all()
    assert change[3].isnan().all()


def test_gradients_pass_through_the_layer() -> None:
    flow = Grid().flow
    given = flow.read(torch.from_numpy(flow.grid.nominal[None]))
    solve = Factorised(flow, flow.start(given), given)
    imbalance = torch.randn(1, 14, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(solve, imbalance.requires_grad_())


def test_without_gains_a_global_solve_is_newton_with_the_jacobian_kept(problem: Grid) -> None:
    module = GNS(corrections=6, global_solve=True).fresh(problem, 0, torch.float64)
    assert isinstance(module, GNS)
    for step in module.network:
        assert isinstance(step, Round)
        torch.nn.init.zeros_(step.outcome.weight)
    inputs = torch.from_numpy(problem.scenarios("test")[:20])
    state, imbalances = module.iterate(module.balance, inputs)
    errors = [float(f[:, module.balance.unknown].abs().max()) for f in imbalances]
    assert errors[5] < 0.01 * errors[0]
    assert (state - newton(problem.flow, inputs, 1e-12).state).abs().max() < 0.1 * errors[3]


def test_a_state_in_balance_stays_whatever_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Grid(train=10, test=5)
    module = GNS(corrections=3, global_solve=True).fresh(problem, 3, torch.float64)
    assert isinstance(module, GNS)
    inputs = torch.from_numpy(problem.scenarios("test"))
    exact = newton(problem.flow, inputs, 1e-12).state
    monkeypatch.setattr(module.balance, "start", lambda given: exact)
    assert (module.iterate(module.balance, inputs)[0] - exact).abs().max() < 1e-10


@pytest.mark.parametrize("solver", [GNS(corrections=2, global_solve=True), DSS(corrections=2)])
def test_the_grid_itself_is_never_trained_on(
    problem: Grid, solver: NeuralSolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = problem.scenarios("test")
    asked: list[tuple[str, str]] = []
    scenarios = Grid.scenarios

    def watched(self: Grid, split: str) -> np.ndarray:
        asked.append((self.case, split))
        return scenarios(self, split)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Grid, "scenarios", watched)
    solution = sciml.solve(problem, solver, training=SHORT)
    assert asked == [("ieee14", "train")]
    assert (solver.restore(problem, solution.state)(points) == solution(points)).all()
    assert asked == [("ieee14", "train")]


def test_trained_on_one_grid_it_beats_dc_on_another(problem: Grid) -> None:
    solver = GNS(corrections=3, global_solve=True, hidden=8, latent=4, rows=8, steps=40)
    found, dc = (problem.score(sciml.solve(problem, each)) for each in (solver, DC()))
    for score in ("vm_error", "va_error", "flow_error", "current_mape90"):
        assert found[score] < 0.2 * dc[score]


def test_solvers_of_one_grid_are_refused(problem: Grid) -> None:
    for solver in (LeapNet(), LeapNetPhysics(), Hybrid()):
        assert "what it learns of other problems serves them alone" in str(misfit(problem, solver))
    assert all(misfit(problem, solver) is None for solver in (GNS(), DSS(), DC(), Hybrid("gns")))


def test_training_on_several_grids_weighs_them_alike() -> None:
    problem = Grid(case="ieee30", train_cases=("ieee14", "ieee57"), train=60, test=2)
    module = GNS(corrections=2, rows=4).fresh(problem, 0, torch.float64)
    batch = module.sample(torch.Generator().manual_seed(0))
    assert [len(v) for v in batch.values()] == [4, 4]
    both = float(module.losses(batch)["imbalance"])
    alone = []
    for case, scenarios in zip(problem.train_cases, batch.values(), strict=True):
        one = GNS(corrections=2, rows=4).fresh(Grid(case=case, train=60, test=2), 0, torch.float64)
        one.sample(torch.Generator().manual_seed(0))
        alone.append(float(one.losses({"scenarios_0": scenarios})["imbalance"]))
    assert both == pytest.approx(np.sqrt(alone[0] * alone[1]))


def test_the_variants_are_what_their_constructors_take() -> None:
    assert GNS(**choose("solver", "gns_global").settings).global_solve
    assert Grid(**choose("problem", "ieee300_unseen").settings).train_cases[-1] == "ieee118"
