"""Accuracy over the share of heads that are silenced: the ranked heads, and what any so many heads do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.ticker import MaxNLocator, PercentFormatter

from rampipe.report.palette import Look, look
from rampipe.report.style import FONT, Theme, dress


@dataclass(frozen=True, slots=True)
class FractionLine:
    """One strategy, by share of heads.

    low, high: Wilson interval of each accuracy or, where `is_band`, the smallest and largest of the random draws whose
    mean is `accuracy`; NaN for none. is_path: whether its sizes are points of one line. name: empty when another line
    of the panel has it.
    """

    name: str
    strategy: str
    share: Float[np.ndarray, " arm"]
    accuracy: Float[np.ndarray, " arm"]
    low: Float[np.ndarray, " arm"]
    high: Float[np.ndarray, " arm"]
    is_band: bool
    is_path: bool


@dataclass(frozen=True, slots=True)
class FractionPanel:
    """All strategies of one way to silence heads. base: accuracy of the untouched model and its interval."""

    title: str
    lines: tuple[FractionLine, ...]
    base: tuple[float, float, float]


def draw_fractions(axes: Axes, panel: FractionPanel, *, theme: Theme) -> None:
    """Lines with error bars for chosen heads, bands for random ones, the base across."""
    accuracy, low, high = panel.base
    axes.axhspan(low, high, color=theme.ink, alpha=0.07, linewidth=0)
    axes.axhline(accuracy, color=theme.ink, linewidth=0.9, linestyle=(0, (4, 3)), label="base: no head silenced")
    for line in panel.lines:
        if line.is_band and line.is_path:
            _band(axes, line, base=accuracy, look=look(line.strategy, theme))
        else:
            _points(axes, line, base=accuracy, look=look(line.strategy, theme))
    labels = ("query heads silenced (%)", "answered correctly (%)")
    dress(axes, title=panel.title, labels=labels, theme=theme)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(left=0)
    axes.grid(color=theme.rule, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(7))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))


def add_legend(cells: Sequence[Axes], *, theme: Theme) -> None:
    """Below the panels, so that it covers no point; what several panels show stands there once."""
    named = dict[str, Any]()
    for axes in cells:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            # Of an error bar the marker alone: bars would hide it.
            named[label] = handle[0] if isinstance(handle, ErrorbarContainer) else handle
    cells[0].figure.legend(
        list(named.values()),
        list(named),
        loc="outside lower left",
        ncols=3,
        frameon=False,
        labelcolor=theme.ink,
        prop={"family": FONT, "size": 8},
    )


def _band(axes: Axes, line: FractionLine, *, base: float, look: Look) -> None:
    share, mean, low, high = (
        np.concatenate([[start], values])
        for start, values in zip((0.0, base, base, base), (line.share, line.accuracy, line.low, line.high), strict=True)
    )
    axes.fill_between(share, low, high, color=look.colour, alpha=0.2, linewidth=0)
    style = (0, (1, 1.2)) if line.strategy == "random" else "solid"
    axes.plot(share, mean, color=look.colour, linewidth=1.5, linestyle=style, marker=look.marker, markersize=3.5,
              markevery=slice(1, None), label=line.name)  # fmt: skip


def _points(axes: Axes, line: FractionLine, *, base: float, look: Look) -> None:
    bars = np.stack([line.accuracy - line.low, line.high - line.accuracy])
    # Hollow: the mean of random draws.
    axes.errorbar(
        line.share, line.accuracy, yerr=np.clip(bars, 0, None), color=look.colour, linestyle="none",
        marker=look.marker, markersize=6, markeredgewidth=0.8, capsize=2.5, capthick=0.9, elinewidth=0.9,
        label=line.name or "_", markerfacecolor="none" if line.is_band else look.colour,
    )  # fmt: skip
    if line.is_path:
        # No head silenced is the base, so every line starts there.
        path = (np.concatenate([[0.0], line.share]), np.concatenate([[base], line.accuracy]))
        axes.plot(*path, color=look.colour, linewidth=1.6)
