"""The corner figure of a posterior."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sciml.problem import Variable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 1500
"""Samples of each kind in a panel; more only blacken it."""


def corner_figure(parameters: Sequence[Variable], samples: np.ndarray, reference: np.ndarray) -> "Figure":
    """Draw reference samples over posterior samples: marginals on the diagonal, pairs of parameters below.

    Args:
        parameters: names and units of the columns.
        samples: shape (n, parameters).
        reference: shape (m, parameters).
    """
    from matplotlib.figure import Figure

    count = len(parameters)
    figure = Figure(figsize=(2.6 * count + 0.6, 2.6 * count + 0.6), layout="constrained")
    axes: Any = figure.subplots(count, count, squeeze=False, sharex="col")
    sources = ((samples, "solution", "C0", 3.0), (reference, "reference", "black", 0.8))
    for i, j in np.ndindex(count, count):
        panel = axes[i, j]
        if j > i:
            panel.set_axis_off()
            continue
        for values, label, colour, size in sources:
            if i == j:
                low, high = reference[:, i].min(), reference[:, i].max()
                bins = np.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), 61)
                panel.hist(values[:, i], bins, density=True, histtype="step", color=colour, label=label)
                panel.set_yticks([])
            else:
                x, y = values[:SHOWN, j], values[:SHOWN, i]
                panel.plot(x, y, ".", markersize=size, color=colour, alpha=0.6, rasterized=True)
        if i == count - 1:
            panel.set_xlabel(_label(parameters[j]))
        if j == 0 and i > 0:
            panel.set_ylabel(_label(parameters[i]))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="upper right", frameon=False)
    return figure


def _label(variable: Variable) -> str:
    return variable.name if variable.unit == "1" else f"{variable.name} [{variable.unit}]"
