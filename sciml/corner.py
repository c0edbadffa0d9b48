"""The corner figure of a posterior."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sciml.problem import Variable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 3000
"""Samples drawn in a panel; more only blacken it."""


def corner_figure(parameters: Sequence[Variable], samples: np.ndarray, reference: np.ndarray) -> "Figure":
    """Draw posterior samples over reference samples: marginals on the diagonal, pairs of parameters below.

    Args:
        parameters: names and units of the columns.
        samples: shape (n, parameters).
        reference: shape (m, parameters).
    """
    from matplotlib.figure import Figure

    size = len(parameters)
    figure = Figure(figsize=(2.6 * size + 0.6, 2.6 * size + 0.6), layout="constrained")
    axes: Any = figure.subplots(size, size, squeeze=False, sharex="col")
    sources = ((reference, "reference", "0.55"), (samples, "solution", "C0"))
    for i, j in np.ndindex(size, size):
        panel = axes[i, j]
        if j > i:
            panel.set_axis_off()
            continue
        for values, label, colour in sources:
            if i == j:
                low, high = reference[:, i].min(), reference[:, i].max()
                bins = np.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), 61)
                panel.hist(values[:, i], bins, density=True, histtype="step", color=colour, label=label)
                panel.set_yticks([])
            else:
                x, y = values[:SHOWN, j], values[:SHOWN, i]
                panel.plot(x, y, ".", markersize=1.2, color=colour, alpha=0.5, rasterized=True)
        if i == size - 1:
            panel.set_xlabel(_label(parameters[j]))
        if j == 0 and i > 0:
            panel.set_ylabel(_label(parameters[i]))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="upper right", frameon=False)
    return figure


def _label(variable: Variable) -> str:
    return variable.name if variable.unit == "1" else f"{variable.name} [{variable.unit}]"
