"""The peer: the same definition in DeepXDE's hands, contained in a process of its own."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import sciml
from problems.pde.heat import Heat
from sciml.child import environment
from sciml.errors import SolveError, UserError
from sciml.registry import find
from sciml.training.settings import Training
from sciml.views.residual import Residual
from solvers.pde.deepxde import CHILD, DeepXDE

SMALL = DeepXDE(points=400, initial_points=60, boundary_points=60, adam_steps=150, lbfgs_steps=200)

FLOW = '''
import numpy as np
import torch

from sciml.pde.conditions import Boundary, Initial, Observed
from sciml.pde.geometry import Shape
from sciml.problem import Variable
from sciml.pde.solids import disk, rectangle
from sciml.views.residual import Residual


class Flow(Residual):
    """Two coupled fields around a hole, u = x y, v = t."""

    fields = (Variable("u"), Variable("v"))
    reference_error = 1e-15

    def __init__(self, shift: float = 0.0, hostile: bool = False) -> None:
        self.shift, self.hostile = shift, hostile

    def domain(self):
        return Shape(rectangle((0, 0), (1, 1)) - disk((0.5, 0.5), 0.2), t=(0, 1))

    def equations(self, u, v):
        return u.xx + u.yy, (v.t + torch.log(-1 - u**2) if self.hostile else v.t - 1 + u.xy - 1)

    def conditions(self):
        where = np.array([[0.1, 0.1, 0.5], [0.9, 0.2, 0.5]])
        return (
            Initial(lambda v: v),
            Boundary(lambda u, x, y: u - x * y, at=lambda x, y: (x == 0) | (x == 1)),
            Boundary(lambda u, v: (u.normal + v, v.normal), at=lambda x, y: np.hypot(x - 0.5, y - 0.5) < 0.3),
            Observed("v", where, where[:, 2]),
        )

    def reference(self, points):
        x, y, t = points.T
        return np.stack([x * y, t], axis=1)
'''


@pytest.fixture
def flow(tmp_path: Path) -> type[Residual]:
    path = tmp_path / "flow.py"
    path.write_text(FLOW)
    return find("problem", f"{path}:Flow").load()


def test_training_converges_and_touches_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    home, folder = tmp_path / "home", tmp_path / "run"
    home.mkdir()
    folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    before = torch.get_default_dtype(), torch.get_default_device(), torch.initial_seed()
    problem = Heat()
    solution = sciml.solve(problem, SMALL, seed=0, folder=folder)
    assert problem.score(solution)["relative_l2"] < 0.02
    assert (torch.get_default_dtype(), torch.get_default_device(), torch.initial_seed()) == before
    assert [path for path in home.rglob("*") if path.is_file()] == []
    assert capfd.readouterr() == ("", "")
    assert {a.dtype for a in solution.state.values()} == {np.dtype("float64")}
    notes = solution.notes
    assert (notes["steps"], notes["stop_reason"], notes["parameters"]) == (350, "schedule", 921)

    rows = list(csv.DictReader((folder / "history.csv").open()))
    terms = [f"loss_{t.name}" for t in problem.terms]
    assert list(rows[0]) == ["step", "closures", "seconds", "phase", "loss", *terms, "error"]
    assert [int(r["step"]) for r in rows] == [1, 100, 150, 250, 350]
    assert [r["phase"] for r in rows] == ["adam"] * 3 + ["lbfgs"] * 2
    assert all(float(r["loss"]) == pytest.approx(sum(float(r[t]) for t in terms)) for r in rows)
    assert float(rows[-1]["error"]) == pytest.approx(problem.score(solution)["relative_l2"], rel=1e-9)
    assert [float(r["seconds"]) for r in rows] == sorted(float(r["seconds"]) for r in rows)


def test_a_user_file_with_a_hole_a_system_and_data_trains_alike_twice(flow: type[Residual]) -> None:
    problem = flow(shift=0.5)
    runs = [sciml.solve(problem, SMALL, seed=k, training=Training(max_steps=4)) for k in (1, 1)]
    assert runs[0].notes["stop_reason"] == "max_steps"
    assert runs[0].state.keys() == runs[1].state.keys()
    for name, array in runs[0].state.items():
        np.testing.assert_array_equal(array, runs[1].state[name])
    assert runs[0]([[0.1, 0.1, 0.3]]).shape == (1, 2)


def test_a_failure_is_told_by_its_last_line(flow: type[Residual]) -> None:
    with pytest.raises(SolveError, match=r"deepxde: step 0 \(adam\): the loss term equation_2 is nan"):
        sciml.solve(flow(hostile=True), SMALL, training=Training(max_steps=4))


def test_what_another_process_cannot_make_is_refused() -> None:
    class Local(Heat):
        pass

    with pytest.raises(UserError, match="top level of a file"):
        sciml.solve(Local(), DeepXDE())
    with pytest.raises(UserError, match="leave out devices and bf16"):
        sciml.solve(Heat(), DeepXDE(), training=Training(precision="bf16"))


def test_its_own_settings_in_single_precision_can_be_had() -> None:
    own = DeepXDE(points=200, initial_points=30, boundary_points=30, adam_steps=20, lbfgs_steps=40, lbfgs="own")
    solution = sciml.solve(Heat(), own, training=Training(precision="32"))
    assert solution.notes["precision"] == "32"
    assert 20 < solution.notes["steps"] <= 60
    rounded = {name: array.astype(np.float32).astype(float) for name, array in solution.state.items()}
    for name, array in solution.state.items():
        np.testing.assert_array_equal(array, rounded[name])


AGREES = """
import importlib.util, sys
def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
child, contract = load("child", sys.argv[1]), load("contract", sys.argv[2])
import torch
from sciml.pde.domains import Box
child.dde.config.set_default_float("float64")
order = {"seed": 0, "precision": "64", "points": 60, "initial_points": 20, "boundary_points": 20}
for name in contract.RESIDUAL:
    problem = contract.problem(name)
    if problem.unknowns:
        continue
    fields = contract.names(problem)
    data = child.data(problem, order)
    where = torch.from_numpy(data.train_x)
    middle = problem.region.bounds.mean(axis=1)
    patches = [contract.Patch(problem, middle)] if isinstance(problem.region, Box) else []
    for network in (contract.smooth(problem), *patches):
        inputs = where.clone().requires_grad_()
        child.dde.grad.clear()
        outputs = network(inputs)
        first = sum(data.num_bcs)
        found = [residual[first:, 0] for residual in data.pde(inputs, outputs)]
        start = 0
        for bc, count in zip(data.bcs, data.num_bcs, strict=True):
            found.append(bc.error(data.train_x, inputs, outputs, start, start + count)[:, 0])
            start += count
        inside = contract.Points(where[first:])
        places = [inside] * (len(found) - len(data.bcs)) + [bc.points for bc in data.bcs]
        for term, points, value in zip(problem.terms, places, found, strict=True):
            derivatives = contract.partial(contract.by_autograd, network, fields)
            exact = term.residual(points, derivatives)
            assert value.shape == exact.shape, (name, term.name)
            worst = (value - exact).abs().max() / (1 + exact.abs().max())
            assert worst < 1e-12, (name, term.name, worst)
            print(name, term.name, float(exact.abs().max()))
"""


def test_dde_grad_agrees_with_autograd_on_every_problem(tmp_path: Path) -> None:
    contract = Path(__file__).with_name("test_contract.py")
    command = [sys.executable, "-P", "-c", AGREES, str(CHILD), str(contract)]
    variables = environment(str(tmp_path), "cpu", DeepXDE.variables)
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} >= {"heat", "burgers"}
