"""Figures of a load flow."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from sciml.grid.newton_batch import voltages
from sciml.grid.powergrid import PowerGrid

from ._drawing import Loaded, network_figure

_MARGIN = 1.2
"""Of a limit above the greatest current with as few branches out as in training; the published grids state none."""
_NUMBERS = ("no branch", "one branch", "two branches", "three branches")


def _title(out: int, trained: Sequence[int]) -> str:
    number = _NUMBERS[out] if out < len(_NUMBERS) else f"{out} branches"
    return f"{number} out" + ("" if out in trained else "\n(never in training)")


def load_flow_figures(
    grid: PowerGrid,
    status: np.ndarray,
    outputs: np.ndarray,
    truth: np.ndarray,
    outages: np.ndarray,
    trained: Sequence[int],
    couplers: int,
) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of n load flows by name, none where no scenario has an answer.

    Args:
        grid: the arrays.
        status: of the branches, shape (n, branches).
        outputs: magnitudes in p.u. and angles in degrees, shape (n, outputs).
        truth: of the reference, like ``outputs``.
        outages: branches out, shape (n,).
        trained: numbers of outages met in training.
        couplers: the branches at the end whose flows are not scored.
    """
    answered = np.isfinite(outputs).all(axis=1)
    if not answered.any():
        return
    answers = voltages(outputs), voltages(truth)
    flows, reference = (np.real(grid.flows(v, status)[:, 0]) for v in answers)
    yield "flows", flows_figure(flows, reference, outages, trained)
    yield "outages", errors_figure(flows, reference, outages, trained)
    loading, exact = (grid.currents(v, status).max(axis=1) for v in answers)
    few = np.isin(outages, trained)
    limit = _MARGIN * exact[few if few.any() else slice(None)].max(axis=0)
    limit[(limit == 0) | (np.arange(len(limit)) >= len(limit) - couplers)] = np.inf
    loading, exact = loading / limit, exact / limit
    yield "loading", loading_figure(loading, exact, outages, trained)
    row = int(np.where(answered, exact.max(axis=1), -1).argmax())
    state = Loaded(status[row], loading[row], exact[row])
    yield "network", network_figure(grid, state, f"scenario {row}, of the greatest load on a branch")


def flows_figure(flows: np.ndarray, reference: np.ndarray, outages: np.ndarray, trained: Sequence[int]) -> Figure:
    """Return predicted against true active flows, one panel for each number of outages.

    Args:
        flows: MW, shape (n, branches).
        reference: MW, shape (n, branches).
        outages: shape (n,).
        trained: numbers of outages met in training.
    """
    figure = Figure(figsize=(12, 5), layout="constrained")
    numbers = np.unique(outages)
    panels = figure.subplots(1, len(numbers), sharex=True, sharey=True, squeeze=False)[0]
    low, high = np.nanmin(reference), np.nanmax(reference)
    for panel, k in zip(panels, numbers, strict=True):
        panel.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=0)
        panel.scatter(reference[outages == k], flows[outages == k], s=4, alpha=0.4, linewidths=0, rasterized=True)
        panel.set(title=_title(k, trained), xlabel="active flow by Newton-Raphson [MW]", aspect="equal")
    panels[0].set_ylabel("active flow [MW]")
    return figure


def loading_figure(loading: np.ndarray, exact: np.ndarray, outages: np.ndarray, trained: Sequence[int]) -> Figure:
    """Return predicted against true loading of the branches, one panel for each number of outages.

    Lines at 100 % part overloads that are found from those missed and from false alarms, which are counted.

    Args:
        loading: currents as shares of the limits, shape (n, branches); NaN where there is no answer.
        exact: of the reference, shape (n, branches).
        outages: shape (n,).
        trained: numbers of outages met in training.
    """
    numbers = np.unique(outages)
    figure = Figure(figsize=(1 + 3.7 * len(numbers), 4.4), layout="constrained")
    panels = figure.subplots(1, len(numbers), squeeze=False)[0]
    for panel, k in zip(panels, numbers, strict=True):
        found, true = 100 * loading[outages == k], 100 * exact[outages == k]
        missed, false = (true > 100) & ~(found > 100), ~(true > 100) & (found > 100)
        most = 1.05 * max(float(np.nanmax(found, initial=0)), float(true.max()), 110.0)
        panel.plot([0, most], [0, most], color="0.6", linewidth=1, zorder=0)
        for line in (panel.axhline, panel.axvline):
            line(100, color="0.3", linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        panel.scatter(true, found, s=4, alpha=0.4, linewidths=0, rasterized=True)
        wrong = missed | false
        panel.scatter(true[wrong], found[wrong], s=7, color="C3", linewidths=0, rasterized=True)
        text = f"{(true > 100).sum()} overloads\n{missed.sum()} missed\n{false.sum()} false alarms"
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
        panel.text(0.97, 0.03, text, transform=panel.transAxes, ha="right", fontsize="small", bbox=box)
        panel.set(title=_title(k, trained), xlabel="current by Newton-Raphson [% of limit]", aspect="equal")
        panel.set(xlim=(0, most), ylim=(0, most))
    panels[0].set_ylabel("current [% of limit]")
    return figure


def errors_figure(flows: np.ndarray, reference: np.ndarray, outages: np.ndarray, trained: Sequence[int]) -> Figure:
    """Return the distribution over scenarios of the relative L2 flow error, for each number of outages.

    Args:
        flows: MW, shape (n, branches).
        reference: MW, shape (n, branches).
        outages: shape (n,).
        trained: numbers of outages met in training.
    """
    error = np.linalg.norm(flows - reference, axis=1) / np.linalg.norm(reference, axis=1)
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    numbers = np.unique(outages)
    groups = [error[(outages == k) & np.isfinite(error)] for k in numbers]
    axes.boxplot(
        groups,
        positions=list(numbers),
        tick_labels=[_title(k, trained) for k in numbers],
        widths=0.5,
        whis=(5, 95),
        showfliers=False,
    )
    axes.set(yscale="log", ylabel="relative L2 error of a scenario's flows")
    axes.set_title("box: quartiles; whiskers: 5 % and 95 % of scenarios", fontsize="medium")
    return figure
