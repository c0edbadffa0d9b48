"""Figures of a load flow."""

import numpy as np
from matplotlib.figure import Figure

_NAMES = {0: "no branch out", 1: "one branch out", 2: "two branches out (never in training)"}


def flows_figure(flows: np.ndarray, reference: np.ndarray, outages: np.ndarray) -> Figure:
    """Return predicted against true active flows, one panel for each number of outages.

    Args:
        flows: MW, shape (n, branches).
        reference: MW, shape (n, branches).
        outages: shape (n,).
    """
    figure = Figure(figsize=(12, 5), layout="constrained")
    panels = figure.subplots(1, len(_NAMES), sharex=True, sharey=True)
    low, high = np.nanmin(reference), np.nanmax(reference)
    for panel, (k, name) in zip(panels, _NAMES.items(), strict=True):
        panel.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=0)
        panel.scatter(reference[outages == k], flows[outages == k], s=4, alpha=0.4, linewidths=0, rasterized=True)
        panel.set(title=name, xlabel="active flow by Newton-Raphson [MW]", aspect="equal")
    panels[0].set_ylabel("active flow [MW]")
    return figure


def errors_figure(flows: np.ndarray, reference: np.ndarray, outages: np.ndarray) -> Figure:
    """Return the distribution over scenarios of the relative L2 flow error, for each number of outages.

    Args:
        flows: MW, shape (n, branches).
        reference: MW, shape (n, branches).
        outages: shape (n,).
    """
    error = np.linalg.norm(flows - reference, axis=1) / np.linalg.norm(reference, axis=1)
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    groups = [error[(outages == k) & np.isfinite(error)] for k in _NAMES]
    axes.boxplot(groups, positions=list(_NAMES), widths=0.5, whis=(5, 95), showfliers=False)
    axes.set(yscale="log", xlabel="branches out", ylabel="relative L2 error of a scenario's flows")
    axes.set_title("box: quartiles; whiskers: 5 % and 95 % of scenarios", fontsize="medium")
    return figure
