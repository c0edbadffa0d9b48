"""The peer PINA: the same definition in its hands; without the extra it is refused and all else works."""

import csv
from pathlib import Path

import numpy as np
import pytest

import sciml
from problems.pde.heat import Heat
from sciml.cli import main
from sciml.errors import UserError
from sciml.registry import find
from sciml.solver import Context
from sciml.training.settings import Training
from solvers.pde import pina
from solvers.pde.pina import PINA

FLOW = '''
import numpy as np

from sciml.pde.conditions import Boundary, Initial, Observed, Periodic
from sciml.pde.domains import Box
from sciml.problem import Variable
from sciml.views.residual import Residual


class Flow(Residual):
    """Two linear fields, u = y and v = t + y, on axes that are not in the order of their names."""

    fields = (Variable("u"), Variable("v"))
    reference_error = 1e-15

    def domain(self):
        return Box(z=(0, 1), y=(0, 1), t=(0, 1))

    def equations(self, u, v):
        return u.yy + u.zy + u.z, v.t - u.y

    def conditions(self):
        where = np.array([[0.1, 0.1, 0.5], [0.9, 0.2, 0.5]])
        return (
            Initial(lambda v, y: v - y),
            Boundary(lambda u, y: u - y, at={"y": 0}),
            Boundary(lambda u: u.normal - 1, at={"y": 1}),
            Periodic("z"),
            Observed("v", where, where[:, 1] + where[:, 2]),
        )

    def reference(self, points):
        z, y, t = points.T
        return np.stack([y, t + y], axis=1)
'''


def test_without_the_extra_it_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pina, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pina refuses heat: .* install sciml-solvers with the extra peers"):
        sciml.solve(Heat(), PINA())
    assert main(["show", "problem=heat"]) == 0
    fitting = capsys.readouterr().out.splitlines()[-1]
    assert "deepxde" in fitting
    assert "pina" not in fitting


def test_a_gpu_is_refused() -> None:
    with pytest.raises(UserError, match="accelerator=cpu"):
        PINA().solve(Heat(), Context(training=Training(accelerator="gpu")))


def test_it_converges_and_is_read_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch_geometric")
    problem = Heat()
    small = PINA(points=300, initial_points=40, boundary_points=40, adam_steps=60, lbfgs_steps=150, learning_rate=0.01)
    solution = sciml.solve(problem, small, folder=tmp_path, training=Training(check_every=40))
    assert problem.score(solution)["relative_l2"] < 0.05
    assert capfd.readouterr() == ("", "")
    assert (solution.notes["steps"], solution.notes["stop_reason"]) == (210, "schedule")
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [int(r["step"]) for r in rows] == [1, 40, 80, 120, 160, 200, 210]
    assert [r["phase"] for r in rows] == ["adam"] * 2 + ["lbfgs"] * 5
    assert float(rows[-1]["error"]) == pytest.approx(problem.score(solution)["relative_l2"], rel=1e-9)
    again = small.restore(problem, solution.state)
    np.testing.assert_array_equal(again([[0.3, 0.2]]), solution([[0.3, 0.2]]))


def test_a_system_with_normals_data_and_periodic_ends_is_what_it_trains(tmp_path: Path) -> None:
    pytest.importorskip("torch_geometric")
    path = tmp_path / "flow.py"
    path.write_text(FLOW)
    problem = find("problem", f"{path}:Flow").load()()
    few = {"points": 100, "initial_points": 30, "boundary_points": 30}
    method = PINA(layers=(8,), activation="softplus", adam_steps=1, lbfgs_steps=120, **few)
    solution = sciml.solve(problem, method, seed=1)
    assert problem.score(solution)["relative_l2"] < 0.02
