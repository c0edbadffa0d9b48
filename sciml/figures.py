"""Figures of fields and of trainings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sciml.errors import UserError
from sciml.problem import Problem, Table, Variable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIELD_MAP, ERROR_MAP = "viridis", "RdBu_r"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.limits": (-2, 3),
    "axes.formatter.use_mathtext": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def field_figure(problem: Problem, table: Table) -> "Figure":
    """Draw each field, its reference and its error, one field to a row.

    Fields of one axis are lines, those of two are maps, with time from left to right where there is time. Of
    more axes a slice is drawn: the middle of the others, and the last moment.

    Args:
        problem: whose outputs are drawn.
        table: what ``problem.table`` returns: every output ``u`` and its ``u_reference`` on the axes.

    Raises:
        UserError: a table without axes.
    """
    if not table.axes:
        raise UserError("expected a table with at least one axis, got none")
    rows = [_slice(table, output) for output in problem.outputs]
    draw = _draw_lines if len(rows[0].axes) == 1 else _draw_maps
    columns = 2 if len(rows[0].axes) == 1 else 3

    def fill(figure: "Figure") -> None:
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for row, axes in zip(rows, grid, strict=True):
            draw(row, figure, axes)
        if rows[0].fixed:
            figure.suptitle("at " + ", ".join(rows[0].fixed))

    return _figure((3.1 * columns, 2.3 * len(rows) + 0.3 * bool(rows[0].fixed)), fill)


def history_figure(columns: Mapping[str, Sequence[Any]]) -> "Figure":
    """Draw the loss terms, and the error where it was evaluated, against the seconds of training.

    Args:
        columns: those of a history by name: seconds, loss, ``loss_<term>``, error, phase; empty or None
            where there is no value.

    Raises:
        UserError: no column of seconds or of the loss.
    """
    for name in ("seconds", "loss"):
        if name not in columns:
            raise UserError(f"expected a history with a column {name!r}, got {', '.join(columns) or 'none'}")
    values = {name: _numbers(column) for name, column in columns.items() if name != "phase"}
    seconds = values["seconds"]
    losses = {n.removeprefix("loss_"): v for n, v in values.items() if n.startswith("loss_")}
    errors = values.get("error", np.full(len(seconds), np.nan))
    changes = _changes(columns.get("phase", ()), seconds)

    def fill(figure: "Figure") -> None:
        shown = {"loss": {"sum": values["loss"], **(losses if len(losses) > 1 else {})}}
        if np.isfinite(errors).any():
            shown["error"] = {"error": errors}
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
        for axes, (label, curves) in zip(panels, shown.items(), strict=True):
            _draw_curves(axes, seconds, curves)
            for at in changes:
                axes.axvline(at, color="0.8", linewidth=0.8, zorder=0)
            axes.set_xlabel("training time [s]")
            axes.set_ylabel(label)

    return _figure((3.6 * (1 + bool(np.isfinite(errors).any())), 2.8), fill)


@dataclass(frozen=True)
class _Slice:
    """A field and its reference on one or two axes; ``fixed`` says where the other axes are held."""

    field: Variable
    axes: Mapping[str, np.ndarray]
    labels: Mapping[str, str]
    solution: np.ndarray
    reference: np.ndarray
    fixed: tuple[str, ...]


def _slice(table: Table, output: Variable) -> _Slice:
    names, solution = table.arrays[output.name]
    reference = table.arrays[f"{output.name}_reference"][1]
    space = [n for n in names if n != "t"]
    shown = names if len(names) <= 2 else space[:2]
    labels = {n: _label(table.variables.get(n, Variable(n))) for n in names}
    index = tuple(slice(None) if n in shown else _held(n, table.axes[n]) for n in names)
    fixed = tuple(f"{n} = {table.axes[n][i]:.3g}" for n, i in zip(names, index, strict=True) if isinstance(i, int))
    kept = [n for n in names if n in shown]
    across = ["t", *(n for n in kept if n != "t")] if "t" in kept else kept
    order = [kept.index(n) for n in across]
    solution, reference = (np.transpose(a[index], order) for a in (solution, reference))
    return _Slice(output, {n: table.axes[n] for n in across}, labels, solution, reference, fixed)


def _held(axis: str, values: np.ndarray) -> int:
    return len(values) - 1 if axis == "t" else len(values) // 2


def _label(variable: Variable) -> str:
    unit = f" [{variable.unit}]" if variable.unit not in ("", "1") else ""
    return f"{variable.long_name or variable.name}{unit}"


def _draw_lines(row: _Slice, figure: "Figure", axes: Sequence["Axes"]) -> None:
    (name, at), *_ = row.axes.items()
    axes[0].plot(at, row.reference, color="0.6", linewidth=3, label="reference")
    axes[0].plot(at, row.solution, color="C0", linewidth=1.2, label="solution")
    axes[0].legend()
    axes[0].set_ylabel(_label(row.field))
    axes[1].plot(at, row.solution - row.reference, color="C3", linewidth=1)
    axes[1].axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes[1].set_ylabel(f"error of {row.field.name}")
    for panel in axes:
        panel.set_xlabel(row.labels[name])


def _draw_maps(row: _Slice, figure: "Figure", axes: Sequence["Axes"]) -> None:
    (across, x), (up, y) = row.axes.items()
    error = row.solution - row.reference
    both = np.concatenate([row.solution, row.reference])
    low, high = np.nanmin(both), np.nanmax(both)
    largest = np.nanmax(np.abs(error)) or 1.0
    panels = (
        ("solution", row.solution, FIELD_MAP, low, high),
        ("reference", row.reference, FIELD_MAP, low, high),
        ("error", error, ERROR_MAP, -largest, largest),
    )
    for panel, (title, values, colours, least, most) in zip(axes, panels, strict=True):
        mesh = panel.pcolormesh(x, y, values.T, cmap=colours, vmin=least, vmax=most, shading="nearest", rasterized=True)
        label = _label(row.field) if title != "error" else f"error of {row.field.name}"
        figure.colorbar(mesh, ax=panel, pad=0.02, label=label).outline.set_visible(False)
        panel.set_title(title)
        panel.set_xlabel(row.labels[across])
        if "t" not in row.axes:
            panel.set_aspect("equal")
    axes[0].set_ylabel(row.labels[up])


def _draw_curves(axes: "Axes", seconds: np.ndarray, curves: Mapping[str, np.ndarray]) -> None:
    for name, values in curves.items():
        seen = np.isfinite(values) & (values > 0) & (seconds > 0)
        total = name in ("sum", "error")
        axes.plot(
            seconds[seen],
            values[seen],
            label=name.replace("_", " "),
            color="0.1" if total else None,
            linewidth=1.4 if total else 1,
            marker="." if seen.sum() < 30 else None,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(alpha=0.3, linewidth=0.5)
    if len(curves) > 1:
        axes.legend()


def _numbers(column: Sequence[Any]) -> np.ndarray:
    return np.array([np.nan if v is None or v == "" else float(v) for v in column])


def _changes(phases: Sequence[Any], seconds: np.ndarray) -> list[float]:
    """Return when another phase begins, halfway between two rows."""
    return [float(np.sqrt(seconds[k] * seconds[k + 1])) for k in range(len(phases) - 1) if phases[k] != phases[k + 1]]


def _figure(size: tuple[float, float], fill: Any) -> "Figure":
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=size, dpi=150, layout="constrained")
        fill(figure)
    return figure
