"""Figures of a load flow."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

_NUMBERS = ("no branch", "one branch", "two branches", "three branches")


def _title(out: int, trained: Sequence[int]) -> str:
    number = _NUMBERS[out] if out < len(_NUMBERS) else f"{out} branches"
    return f"{number} out" + ("" if out in trained else "\n(never in training)")


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
