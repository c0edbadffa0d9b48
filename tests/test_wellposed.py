"""Ill-posed definitions: refused or warned about by name before anything is solved."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sciml
from problems.pde.heat import Heat
from sciml.cli import main
from sciml.errors import UserError
from sciml.pde.conditions import Boundary, Condition, Initial, Observed, Periodic
from sciml.pde.domains import Box, Domain
from sciml.pde.geometry import Shape
from sciml.pde.solids import disk, rectangle
from sciml.problem import Variable
from sciml.runs.caveats import caveats
from sciml.views.residual import Residual, Unknown
from solvers.trivial import Trivial

LINE = Box(x=(0, 1), t=(0, 1))
SQUARE = Box(x=(0, 1), y=(0, 1))
START = Initial(lambda u, x: u - torch.sin(torch.pi * x))
COLD = Boundary(lambda u: u)


class Stated(Residual):
    """Any definition; no reference is asked for."""

    reference_error = 0.0
    size = 2.0

    def __init__(self) -> None:
        self.place: Domain = LINE
        self.given: Sequence[Condition] = ()
        self.stated: Callable[..., Any] = lambda u: u.t - u.xx

    def domain(self) -> Domain:
        return self.place

    def equations(self, *u):
        return self.stated(*u)

    def conditions(self):
        return self.given

    def reference(self, points: np.ndarray) -> np.ndarray:
        return np.zeros((len(points), len(self.fields)))


class Pair(Stated):
    """Two fields."""

    fields = (Variable("u"), Variable("v"))


class Sought(Stated):
    """A number is sought."""

    unknowns = (Unknown("size", 1.0),)


def stated(*given: Condition, equations=lambda u: u.t - u.xx, place: Domain = LINE, kind: type[Stated] = Stated):
    problem = kind()
    problem.given, problem.stated, problem.place = given, equations, place
    return problem


def said(problem: Stated) -> list[tuple[str, str]]:
    """Return error or warning, and the line."""
    return [("error" if c.fatal else "warning", c.text) for c in problem.complaints()]


def seen(field: str = "u", *rows: Sequence[float]) -> Observed:
    points = np.array(rows or [[0.2, 0.3], [0.7, 0.9]])
    return Observed(field, points, np.ones(len(points)))


def wave(u):
    return u.tt - u.xx


def coupled(u, v):
    return u.t - v.xx, v.t - u.xx


ILL = {
    "no initial condition": (
        stated(COLD),
        "error",
        "expected 1 initial condition of u, as the equations have u.t, got none; "
        "add Initial(lambda u: u - ...) to the conditions",
    ),
    "no initial condition, measured": (stated(COLD, seen()), "warning", "expected 1 initial condition of u"),
    "one of two initial conditions": (
        stated(START, COLD, equations=wave),
        "error",
        "expected 2 initial conditions, one for each derivative in time (u.tt), got 1 (initial); "
        "add what lacks, such as Initial(lambda u: u.t) for u.tt",
    ),
    "no initial condition of one field": (
        stated(START, Boundary(lambda u, v: (u, v)), equations=coupled, kind=Pair),
        "error",
        "expected 1 initial condition of v",
    ),
    "one initial condition too many": (
        stated(START, Initial(lambda u: u.t, name="rate"), COLD),
        "warning",
        "expected 1 initial condition, one for each derivative in time (u.t), got 2 (initial, rate)",
    ),
    "a field that no equation mentions": (
        stated(START, COLD, Boundary(lambda v: v), equations=lambda u, v: u.t - u.xx, kind=Pair),
        "error",
        "expected every field in an equation, got none that mentions v; add one, or leave v out",
    ),
    "one equation of two fields": (
        stated(START, COLD, equations=lambda u, v: u.t - u.xx + v, kind=Pair),
        "error",
        "expected an equation or measurements for each of the fields u, v, got 1 equation; "
        "add equations, or Observed data",
    ),
    "no boundary condition": (
        stated(START),
        "warning",
        "expected a boundary condition of u along x, where its order is 2, got none; "
        "add Boundary(lambda u: ..., at={'x': ...})",
    ),
    "none along y": (
        stated(
            Boundary(lambda u: u, at=lambda x, y: (x == 0) & (y > 0)),
            equations=lambda u: u.xx + u.yy,
            place=SQUARE,
        ),
        "warning",
        "expected a boundary condition of u along y",
    ),
    "none of one field on a shape": (
        stated(
            Boundary(lambda u: u),
            equations=lambda u, v: (u.xx + u.yy, v.xx + v.yy - u),
            place=Shape(rectangle((0, 0), (1, 1)) - disk((0.5, 0.5), 0.2)),
            kind=Pair,
        ),
        "warning",
        "expected a boundary condition of v along x",
    ),
    "the start against an end": (
        stated(START, Boundary(lambda u: u - 0.3, at={"x": 0}, name="warm"), Boundary(lambda u: u, at={"x": 1})),
        "warning",
        "expected conditions that agree where x = 0 meets t = 0, got warm and initial apart by 0.3; "
        "make them agree, or expect a jump",
    ),
    "the start's slope against a flux": (
        stated(Initial(lambda u, x: u.x - x, name="slope"), Boundary(lambda u: u.normal)),
        "warning",
        "where x = 1 meets t = 0, got boundary and slope apart by 1",
    ),
    "a start that is not periodic": (
        stated(Initial(lambda u, x: u - x), Periodic("x")),
        "warning",
        "where t = 0 and the periodic ends x = 0 and x = 1 meet, got initial apart by 1",
    ),
    "a lid that moves past walls, by predicates": (
        stated(
            Boundary(lambda u: u - 1, at=lambda y: y == 1, name="lid"),
            Boundary(lambda u: u, at=lambda y: y < 1, name="walls"),
            equations=lambda u: u.xx + u.yy,
            place=SQUARE,
        ),
        "warning",
        "where x = 1 meets y = 1, got walls and lid apart by 1",
    ),
    "one face told twice": (
        stated(START, COLD, Boundary(lambda u: 2 * u - 1, at={"x": 0}, name="half")),
        "error",
        "expected conditions that agree where x = 0, got boundary and half apart by 0.5; drop one",
    ),
    "an unknown that no equation mentions": (
        stated(START, COLD, seen(), kind=Sought),
        "error",
        "expected size in an equation, since it is sought, got none that mentions it; "
        "write self.size there, or leave it out of unknowns",
    ),
}


@pytest.mark.parametrize("name", ILL)
def test_what_is_wrong_is_named(name: str) -> None:
    problem, kind, line = ILL[name]
    found = said(problem)
    assert [k for k, text in found if line in text] == [kind], found
    assert all("\n" not in text and "; " in text for _, text in found)
    if kind == "error":
        with pytest.raises(UserError, match=rf"{problem.name} is ill-posed: "):
            sciml.solve(problem, Trivial())


class Diffusing(Sought):
    """The diffusivity is sought."""

    def equations(self, u):
        return u.t - self.size * u.xx


def test_an_unknown_needs_data_from_several_places() -> None:
    assert said(stated(START, COLD, seen(), kind=Diffusing)) == []
    ((kind, line),) = said(stated(START, COLD, kind=Diffusing))
    assert (kind, line.partition(";")[0]) == (
        "error",
        "expected measurements from which to find size, got none",
    )
    ((kind, line),) = said(stated(START, COLD, seen("u", [0.5, 0.5]), kind=Diffusing))
    assert (kind, line.partition(";")[0]) == (
        "warning",
        "expected measurements of u at several points, got all 1 at x = 0.5, t = 0.5",
    )
    assert said(stated(START, COLD, seen("u", [0.5, 0.5]))) == [], "one value pins a constant"
    assert "got all 2" in said(stated(START, COLD, seen("u", [0.5, 0.5], [0.5, 0.5])))[0][1]


WELL = {
    "heat": stated(START, COLD),
    "periodic": stated(Initial(lambda u, x: u - torch.cos(2 * torch.pi * x)), Periodic("x")),
    "wave": stated(START, Initial(lambda u: u.t), COLD, equations=wave),
    "wave as a system": stated(
        START, Initial(lambda v: v), COLD, equations=lambda u, v: (u.t - v, v.t - u.xx), kind=Pair
    ),
    "an algebraic field": stated(
        START, COLD, Boundary(lambda v: v), equations=lambda u, v: (u.t - v.xx, v - u), kind=Pair
    ),
    "a field found from data": stated(START, COLD, seen(), equations=lambda u, v: u.t - (1 + v**2) * u.xx, kind=Pair),
    "advection": stated(Initial(lambda u: u), Boundary(lambda u: u, at={"x": 0}), equations=lambda u: u.t + u.x),
    "both normals at a corner": stated(
        Boundary(lambda u, x: u.normal - x), equations=lambda u: u.xx + u.yy - u, place=SQUARE
    ),
    "Robin that fits": stated(
        Initial(lambda u, x: u - torch.cos(0.8 * x)), Boundary(lambda u: u.normal + 0.8 * np.tan(0.8) * u)
    ),
    "a singular datum": stated(
        Boundary(lambda u, x: u - torch.log(x), at={"y": 0}),
        Boundary(lambda u: u, at={"y": 1}),
        Boundary(lambda u: u.x, at={"x": 1}),
        equations=lambda u: u.xx + u.yy,
        place=SQUARE,
    ),
}


@pytest.mark.parametrize("name", WELL)
def test_what_is_well_posed_passes_in_silence(name: str) -> None:
    assert said(WELL[name]) == []


def test_a_difference_far_below_the_data_is_rounding() -> None:
    off = [said(stated(START, Boundary(lambda u, e=e: u - e))) for e in (1e-13, 1e-7)]
    assert off[0] == []
    assert [line.partition(";")[0].partition("got ")[2] for _, line in off[1]] == [
        "boundary and initial apart by 1e-07"
    ] * 2


def test_a_warning_reaches_the_caller_of_the_library() -> None:
    warm = stated(START, Boundary(lambda u: u - 0.3))
    with pytest.warns(UserWarning, match="stated: expected conditions that agree where x = 0 meets t = 0"):
        sciml.solve(warm, Trivial())


FILE = '''
from problems.pde.heat import Heat
from sciml.pde.conditions import Boundary


class Warm(Heat):
    """Its ends are warm from the start."""

    def conditions(self):
        return super().conditions()[0], Boundary(lambda u: u - 0.3)


class Timeless(Heat):
    """It never starts."""

    def conditions(self):
        return super().conditions()[1:]
'''


def test_the_command_line_warns_keeps_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rods.py").write_text(FILE)
    assert main(["train", "problem=rods.py:Warm", "solver=trivial", "run.dir=run", "compare=false"]) == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    kept = sciml.load("run", trust=True).metrics["warnings"]
    assert warned == [f"warning: {line}" for line in kept]
    assert [line.partition(" got")[0] for line in kept] == [
        f"warm: expected conditions that agree where x = {x} meets t = 0," for x in (0, 1)
    ]
    assert main(["show", "problem=rods.py:Warm"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if line.startswith("warning: ")] == [w.replace("warm: ", "", 1) for w in warned]
    assert main(["train", "problem=rods.py:Timeless", "solver=trivial", "run.dir=none"]) == 2
    assert "timeless is ill-posed: expected 1 initial condition of u" in capsys.readouterr().err
    assert not Path("none").exists()


def test_what_falls_short_stands_in_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["problem=heat", "solver=pinn", "solver.width=4", "trainer.max_steps=2", "compare=false"]
    assert main(["train", *words, "run.dir=run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (row,) = [line for line in lines if line.startswith("│ pinn")]
    assert row.split("│")[3].rstrip().endswith(" †")
    said = " ".join(line.removeprefix("†       pinn: ") for line in lines if line.startswith("†       pinn: "))
    assert "equations left unsolved to " in said
    assert "stopped by max_steps" in said
    assert caveats({"tolerance_met": "no", "stop_reason": "singular"}) == ("tolerance not met", "stopped by singular")
    assert caveats({"tolerance_met": "yes", "stop_reason": "schedule"}) == ()


def test_heat_is_well_posed() -> None:
    assert list(Heat().complaints()) == []
