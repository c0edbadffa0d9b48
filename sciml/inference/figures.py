"""Figures of how far posteriors can be trusted."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from sciml.inference.calibration import LEVEL, Calibration
from sciml.problem import Variable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

APIECE = 12
"""Data up to which each has a panel of its own."""


def rank_figure(parameters: Sequence[Variable], found: Calibration) -> "Figure":
    """Draw a histogram of the ranks of each parameter, with the band of all but 5 % of those as many.

    Ranks that pile up at both ends tell of posteriors too narrow, in the middle of ones too wide, at one end of bias.

    Args:
        parameters: names of the columns of the ranks.
        found: what is drawn.
    """
    count, bins = len(found.ranks), max(5, min(20, len(found.ranks) // 20))
    tail = (1 - LEVEL) / (2 * bins * len(parameters))
    low, high = stats.binom.ppf([tail, 1 - tail], count, 1 / bins)
    top = max(high, *(np.histogram(ranks, bins, (0, 1))[0].max() for ranks in found.ranks.T))
    figure, panels = _panels(len(parameters))
    for panel, parameter, ranks in zip(panels, parameters, found.ranks.T, strict=False):
        panel.axhspan(low, high, color="0.9", label="95 %, all bins together")
        panel.axhline(count / bins, color="0.5", linewidth=0.8)
        panel.hist(ranks, np.linspace(0, 1, bins + 1), histtype="step", color="C0")
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1.1 * top)
        panel.set_title(parameter.name, fontsize="medium")
    figure.supxlabel("rank of the true value in the posterior")
    figure.supylabel("simulations")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", frameon=False)
    return figure


def calibration_figure(parameters: Sequence[Variable], found: Calibration) -> "Figure":
    """Draw how often credible regions hold the truth, and the distribution functions of ranks minus the diagonal.

    Bands hold all but 5 % of the curves of calibrated posteriors as a whole.

    Args:
        parameters: names of the columns of the ranks.
        found: what is drawn.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    covered, ranked = figure.subplots(1, 2)
    level = np.arange(1, len(found.coverage) + 1) / len(found.coverage)
    line = np.array([0.0, 1.0])
    grid = np.linspace(0, 1, 201)
    edges = (grid - found.band).clip(0), (grid + found.band).clip(None, 1)
    covered.fill_between(grid, *edges, color="0.9", linewidth=0, label="95 %")
    covered.plot(line, line, color="0.5", linewidth=0.8)
    covered.step(np.sort(found.coverage), level, where="post", color="black", label="coverage")
    covered.set_xlabel("credibility")
    covered.set_ylabel("share of simulations inside")
    covered.set_aspect("equal")
    covered.legend(loc="upper left", fontsize="small", frameon=False)
    ranked.fill_between(line, -found.band, found.band, color="0.9", linewidth=0, label="95 %")
    for parameter, ranks in zip(parameters, found.ranks.T, strict=True):
        ranked.step(np.sort(ranks), level - np.sort(ranks), where="post", label=parameter.name, linewidth=1)
    ranked.set_xlabel("rank of the true value")
    ranked.set_ylabel("share of simulations - rank")
    ranked.legend(fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def predictive_figure(data: Sequence[Variable], drawn: np.ndarray, observed: np.ndarray) -> "Figure":
    """Draw the observation over data simulated at posterior draws.

    Up to twelve data are shown one by one as histograms, more of them as bands along their number.

    Args:
        data: names and units of the columns.
        drawn: shape (draws, data).
        observed: shape (data,).
    """
    if len(data) > APIECE:
        return _bands(data, drawn, observed)
    figure, panels = _panels(len(data))
    for panel, variable, column, seen in zip(panels, data, drawn.T, observed, strict=False):
        low, high = min(column.min(), seen), max(column.max(), seen)
        panel.hist(column, np.linspace(low, high if high > low else low + 1, 25), color="C0", alpha=0.5)
        panel.axvline(seen, color="black", linewidth=1.5, label="observed")
        panel.set_xlabel(variable.name if variable.unit == "1" else f"{variable.name} [{variable.unit}]")
        panel.set_yticks([])
    figure.supylabel("data at posterior draws")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", frameon=False)
    return figure


def _bands(data: Sequence[Variable], drawn: np.ndarray, observed: np.ndarray) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    axes = figure.subplots()
    place = np.arange(1, len(data) + 1)
    for tail, shade, label in ((0.025, 0.25, "95 %"), (0.25, 0.5, "50 %")):
        low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
        axes.bar(place, high - low, 0.8, low, color="C0", alpha=shade, label=f"{label} of data at posterior draws")
    axes.plot(place, observed, "k.", label="observed")
    axes.margins(0.02, 0.05)
    axes.use_sticky_edges = False
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"datum, {data[0].name} to {data[-1].name}")
    units = {variable.unit for variable in data}
    axes.set_ylabel("value" if units == {"1"} else f"value [{', '.join(sorted(units))}]")
    figure.legend(fontsize="small", frameon=False, loc="outside upper right", ncols=3)
    return figure


def _panels(count: int) -> tuple["Figure", list[Any]]:
    """Return a figure and its panels, in rows of four at most, those too many left out."""
    from matplotlib.figure import Figure

    columns = min(4, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(2.4 * columns + 0.8, 2.0 * rows + 0.8), layout="constrained")
    panels: Any = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat[count:]:
        panel.set_axis_off()
    return figure, list(panels.flat[:count])
