"""Work-precision figures: the error that each solver reaches against the seconds it takes."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sciml.bench.board import Row, Section
from sciml.bench.stats import FLOOR
from sciml.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
"""Colours that remain distinct without red-green vision (Okabe and Ito, Color Universal Design, 2008)."""
_MARKERS = {"classical": "s", "neural": "o", "peer": "^", "trivial": "x"}
_SHORTEST = 1e-6
_GRID = 400


def work_precision(section: Section, path: Path) -> bool:
    """Draw a problem's solvers into one PNG file; return False, writing nothing, where no run gave an answer.

    A row whose error was followed in training appears as the median over seeds, each seed thin behind it; one
    with a ladder as its runs from coarse to fine; the trivial answer as a level line. The large mark is the
    ordinary run: the geometric mean of its error at its median time, each seed small around it. A row that
    lacks seeds says how many it has and gets no large mark, for its error as a whole is not known.
    """
    drawn = [row for row in section.rows if row.answered]
    if not drawn:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for row, color in zip(drawn, _palette(len(drawn)), strict=True):
        draw(axes, row, color)
    axes.set(xscale="log", yscale="log", title=section.title, xlabel="seconds until the answer is at hand")
    axes.set_ylabel(f"error ({section.score.replace('_', ' ')})")
    axes.grid(which="major", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
    return True


def median_curve(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """Return the median over seeds of the error followed in training, on a logarithmic clock.

    At each time a seed counts with the last error before it; the curve starts where every seed has one.
    """
    curves = [_arrays(run.curve, run.evaluate) for run in row.answered]
    start = max(seconds[0] for seconds, _ in curves)
    end = max(seconds[-1] for seconds, _ in curves)
    clock = np.geomspace(start, end, _GRID) if end > start else np.array([start])
    clock[-1] = end
    errors = [e[np.clip(np.searchsorted(s, clock, side="right") - 1, 0, None)] for s, e in curves]
    return clock, np.median(errors, axis=0)


def _palette(count: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(count)]


def draw(axes: "Axes", row: Row, color: str) -> None:
    """Draw one row, of which some run gave an answer."""
    marker = _MARKERS.get(row.kind, "o")
    label = row.solver if row.solver == row.kind else f"{row.solver} ({row.kind})"
    seconds = max(row.median("seconds"), _SHORTEST)
    error = max(10 ** float(np.mean([math.log10(max(r.error, FLOOR)) for r in row.answered])), FLOOR)
    if row.steps:
        steps = [s for s in row.steps if math.isfinite(s.error)]
        x = [max(s.seconds, _SHORTEST) for s in steps]
        axes.plot(x, [max(s.error, FLOOR) for s in steps], color=color, marker=marker, markersize=4, linewidth=1.4)
    elif row.kind == "trivial":
        axes.axhline(error, color=color, linewidth=1, linestyle=":")
    elif any(len(run.curve) > 1 for run in row.answered):
        for run in row.answered:
            axes.plot(*_arrays(run.curve, run.evaluate), color=color, linewidth=0.6, alpha=0.35)
        axes.plot(*median_curve(row), color=color, linewidth=1.6)
    for run in row.answered:
        axes.plot(
            max(run.seconds, _SHORTEST),
            max(run.error, FLOOR),
            color=color,
            marker=marker,
            markersize=3,
            alpha=0.5,
        )
    whole = row.finished == row.planned
    axes.plot(
        [seconds] if whole else [],
        [error] if whole else [],
        linestyle="",
        marker=marker,
        markersize=8 if whole else 3,
        color=color,
        markerfacecolor="white" if whole and marker != "x" else color,
        markeredgewidth=1.6 if whole else 1,
        label=label if whole else f"{label}, {row.finished} of {row.planned} seeds",
    )


def _arrays(curve: tuple[tuple[float, float], ...], evaluate: float) -> tuple[np.ndarray, np.ndarray]:
    """Return seconds, the evaluation included, and errors, in order of time."""
    values = np.array(sorted(curve))
    return np.maximum(values[:, 0] + evaluate, _SHORTEST), np.maximum(values[:, 1], FLOOR)
