"""Charts of the meta-cells' quality: gene correlations and the variance of the components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mistline.report.plots.theme import Palette, panels


def correlations(palette: Palette, histograms: Mapping[str, Mapping[str, Sequence[Any]]]) -> Figure:
    """Draw histograms over genes, one a part of the cells.

    Args:
        palette: the inks.
        histograms: title -> `edges` [B + 1] and `counts` [B].
    """
    figure, (axes,) = panels(1, size=(4.6, 2.6))
    for (title, data), colour in zip(histograms.items(), (palette.main, palette.accent), strict=False):
        n = int(np.sum(data["counts"]))
        axes.stairs(data["counts"], data["edges"], color=colour, lw=1.8, label=f"{title} (n = {n:,} genes)")
    axes.set(xlabel="Pearson correlation", ylabel="genes")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylim(0, axes.get_ylim()[1] * 1.6)
    axes.grid(axis="y")
    axes.legend(loc="upper left")
    return figure


def explained(palette: Palette, share: NDArray[np.float64]) -> Figure:
    """Draw the cumulative share of variance [p] over the number of components."""
    figure, (axes,) = panels(1, size=(4.6, 2.6))
    axes.plot(np.arange(1, len(share) + 1), 100 * share, "o-", color=palette.main, ms=3, lw=1.6)
    axes.set(xlabel="components", ylabel="variance (%)", ylim=(0, 105), xlim=(0, len(share) + 1))
    axes.set_title(f"{100 * share[-1]:.1f} % in {len(share)} components")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y")
    return figure
