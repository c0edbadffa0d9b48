"""Figures draw what the tables hold."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from sciml.errors import UserError
from sciml.figures import field_figure, history_figure
from sciml.problem import Table, Variable

AXES = {"x": np.linspace(0, 1, 21), "y": np.linspace(0, 2, 11), "t": np.linspace(0, 3, 7)}
PROBLEM = cast(Any, SimpleNamespace(outputs=(Variable("u", "m/s", "speed"), Variable("p"))))


def table(*names: str) -> Table:
    axes = {n: AXES[n] for n in names}
    grid = np.meshgrid(*axes.values(), indexing="ij")
    value = sum((k + 1) * g for k, g in enumerate(grid))
    arrays = {n: (names, value + s) for n, s in (("u", 0.25), ("u_reference", 0), ("p", 0), ("p_reference", 0))}
    return Table(axes, arrays, {"x": Variable("x", "m")})


def panels(figure) -> list:
    return [a for a in figure.axes if a.get_label() != "<colorbar>"]


def test_one_axis_gives_lines() -> None:
    shown = panels(field_figure(PROBLEM, table("x")))
    assert len(shown) == 4
    assert [len(a.lines) for a in shown] == [2, 2, 2, 2]
    np.testing.assert_allclose(shown[1].lines[0].get_ydata(), 0.25)
    assert (shown[0].get_xlabel(), shown[0].get_ylabel()) == ("x [m]", "speed [m/s]")


@pytest.mark.parametrize(
    ("names", "across", "up", "title"),
    [
        (("x", "y"), "x [m]", "y", None),
        (("x", "t"), "t", "x [m]", None),
        (("x", "y", "t"), "x [m]", "y", "at t = 3"),
    ],
)
def test_more_axes_give_maps(names: tuple[str, ...], across: str, up: str, title: str | None, tmp_path: Path) -> None:
    data = table(*names)
    figure = field_figure(PROBLEM, data)
    shown = panels(figure)
    assert len(shown) == 6
    assert (shown[0].get_xlabel(), shown[0].get_ylabel()) == (across, up)
    assert (figure.get_suptitle() or None) == title
    drawn = shown[0].collections[0].get_array()
    values = data.arrays["u"][1]
    values = values[..., -1] if values.ndim == 3 else values
    np.testing.assert_allclose(drawn, values if names == ("x", "t") else values.T)
    np.testing.assert_allclose(shown[2].collections[0].get_array(), 0.25)
    figure.savefig(tmp_path / "field.png")
    assert (tmp_path / "field.png").stat().st_size > 1000


def test_history_draws_terms_and_errors_against_seconds() -> None:
    seconds = [0.1, 1.0, 10.0]
    figure = history_figure(
        {
            "seconds": seconds,
            "phase": ["adam", "adam", "lbfgs"],
            "loss": ["3", "2", "1"],
            "loss_equation": [2, 1, 0.5],
            "loss_initial": [1, 1, 0.5],
            "error": ["0.5", "", "0.1"],
        }
    )
    loss, error = figure.axes
    assert [t.get_text() for t in loss.get_legend().get_texts()] == ["sum", "equation", "initial"]
    np.testing.assert_allclose(np.array(loss.lines[0].get_data()), [seconds, [3, 2, 1]])
    np.testing.assert_allclose(np.array(error.lines[0].get_data()), [[0.1, 10.0], [0.5, 0.1]])
    assert {a.get_xscale() + a.get_yscale() for a in figure.axes} == {"loglog"}


def test_columns_that_are_missing_are_named() -> None:
    with pytest.raises(UserError, match="a column 'loss', got seconds"):
        history_figure({"seconds": [1.0]})
    with pytest.raises(UserError, match="at least one axis"):
        field_figure(PROBLEM, Table({}, {}))
