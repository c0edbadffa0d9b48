"""A grid drawn with what its branches carry."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sciml.grid.powergrid import PowerGrid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_FORCES = 500
"""Buses up to which distances in the drawing follow those in the grid; beyond, springs are much quicker."""
_NAMED = 60
"""Buses up to which all are named."""


def layout(grid: PowerGrid) -> np.ndarray:
    """Return x and y of the buses, shape (buses, 2): the case's own, those of others by springs between the buses."""
    import networkx

    buses = len(grid.numbers)
    known = np.full((buses, 2), np.nan) if grid.positions is None else grid.positions
    placed = np.flatnonzero(~np.isnan(known).any(axis=1)).tolist()
    if len(placed) == buses:
        return known
    graph = networkx.Graph(zip(grid.source.tolist(), grid.target.tolist(), strict=True))
    graph.add_nodes_from(range(buses))
    if placed:
        middle = known[placed].mean(axis=0)
        start = {k: known[k] if k in set(placed) else middle for k in range(buses)}
        found = networkx.spring_layout(graph, pos=start, fixed=placed, seed=0)
    elif buses <= _FORCES:
        found = networkx.kamada_kawai_layout(graph)
    else:
        found = networkx.spring_layout(graph, seed=0)
    return np.array([found[k] for k in range(buses)])


@dataclass(frozen=True)
class Loaded:
    """One scenario's branches.

    Args:
        status: shape (branches,).
        loading: of a solution, as a share of the limit, shape (branches,); NaN where it is not told.
        exact: of the reference, likewise.
    """

    status: np.ndarray
    loading: np.ndarray
    exact: np.ndarray


def network_figure(grid: PowerGrid, state: Loaded, note: str) -> "Figure":
    """Draw the grid twice, with the loading of its branches by a solution and with the error of that loading.

    Args:
        grid: the arrays.
        state: of one scenario.
        note: what stands above, on the scenario.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    at = layout(grid)
    figure = Figure(figsize=(13, 6.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    loads = colormaps["YlOrRd"].with_extremes(over="black")
    percent, error = 100 * state.loading, 100 * (state.loading - state.exact)
    largest = max(float(np.nanmax(np.abs(error), initial=0.0)), 1e-9)
    _branches(left, at, grid, state, percent, (0.0, 100.0), loads, "current as a share of the limit [%]")
    _branches(right, at, grid, state, error, (-largest, largest), colormaps["RdBu_r"], "error of that share [% points]")
    for axes in (left, right):
        _buses(axes, at, grid)
    worst, truly = int(np.nanargmax(state.loading)), int(np.nanargmax(state.exact))
    for k in dict.fromkeys((worst, truly)):
        middle = at[[grid.source[k], grid.target[k]]].mean(axis=0)
        text = f"{_name(grid, k)}\n{percent[k]:.0f} % (true {100 * state.exact[k]:.0f} %)"
        box = {"boxstyle": "round,pad=0.25", "fc": "white", "ec": "0.4", "alpha": 0.9}
        arrow = {"arrowstyle": "-", "color": "0.2"}
        left.annotate(
            text, middle, xytext=(28, 28), textcoords="offset points", bbox=box, arrowprops=arrow, fontsize=8, zorder=9
        )
    gone = [_name(grid, k) for k in np.flatnonzero((state.status == 0) & grid.in_service).tolist()]
    figure.suptitle(f"{note}; out: {', '.join(gone) or 'no branch'}", fontsize="medium")
    left.legend(loc="lower left", frameon=False, fontsize="small", handletextpad=0.4)
    return figure


def _branches(
    axes: "Axes",
    at: np.ndarray,
    grid: PowerGrid,
    state: Loaded,
    values: np.ndarray,
    span: tuple[float, float],
    colours: "Colormap",
    label: str,
) -> None:
    """Draw the branches, the heaviest last, wide by loading, open ones broken."""
    from matplotlib.collections import LineCollection

    ends = at[np.stack([grid.source, grid.target], axis=1)]
    thin = min(1.0, 20 / np.sqrt(len(ends)))
    live = np.flatnonzero((state.status != 0) & np.isfinite(values))
    live = live[np.argsort(np.abs(values[live]))]
    width = thin * (0.8 + 2.7 * np.clip(np.abs(values[live]) / max(span), 0, 1.3))
    axes.add_collection(LineCollection(list(ends[live]), linewidths=width + 0.6 * thin, colors="0.55", zorder=1))
    drawn = LineCollection(list(ends[live]), linewidths=width, cmap=colours, zorder=2)
    drawn.set_array(values[live])
    drawn.set_clim(*span)
    axes.add_collection(drawn)
    gone = ends[state.status == 0]
    axes.add_collection(
        LineCollection(list(gone), linewidths=1.2, colors="0.3", linestyles=(0, (3, 2)), zorder=3, label="out")
    )
    axes.plot(*gone.mean(axis=1).T, "x", color="0.1", markersize=7, zorder=4)
    axes.figure.colorbar(
        drawn, ax=axes, orientation="horizontal", fraction=0.04, pad=0.01, aspect=40, label=label,
        extend="max" if span[0] == 0 else "neither",
    )  # fmt: skip
    axes.set_aspect("equal", adjustable="datalim")
    axes.autoscale_view()
    axes.axis("off")


def _buses(axes: "Axes", at: np.ndarray, grid: PowerGrid) -> None:
    size = min(1.0, 10 / np.sqrt(len(at)))
    slack, others = grid.regulated[:1], grid.regulated[1:]
    plain = np.setdiff1d(np.arange(len(at)), grid.regulated)
    kinds: Sequence[tuple[np.ndarray, str, float, str, str]] = (
        (plain, "o", 16, "0.35", "bus"),
        (others, "o", 34, "white", "bus with generators"),
        (slack, "s", 60, "white", "slack"),
    )
    for buses, marker, area, face, label in kinds:
        axes.scatter(
            *at[buses].T, s=size * area, marker=marker, facecolor=face, edgecolor="0.1", linewidth=0.8 * size, zorder=5,
            label=label,
        )  # fmt: skip
    halo = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.4}
    for k in range(len(at)) if len(at) <= _NAMED else ():
        name = str(grid.numbers[k])
        axes.annotate(name, at[k], xytext=(5, 5), textcoords="offset points", fontsize=7, bbox=halo, zorder=6)


def _name(grid: PowerGrid, branch: int) -> str:
    """Return a branch's name for people, its buses with a dash between."""
    return grid.branches[branch].replace("_", "–", 1)
