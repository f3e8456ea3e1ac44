"""Where in the depth of the model heads retrieve: the largest and the mean value of each layer, and its CoRe heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rampipe.report.heatmap import HeadGrid
from rampipe.report.palette import look
from rampipe.report.style import Theme, dress
from rampipe.types import HeadId

BAR_WIDTH = 0.8
"""Of a layer's place, shared by the bars of all profiles."""


@dataclass(frozen=True, slots=True)
class DepthProfile:
    """One kind of samples, by layer.

    name: a mark of the palette. mean, largest: NaN for a layer without a value. first: the head that is largest; null
    with it.
    """

    name: str
    mean: Float[np.ndarray, " layer"]
    largest: Float[np.ndarray, " layer"]
    first: tuple[HeadId | None, ...]
    num_core: Int[np.ndarray, " layer"]

    @property
    def num_deep(self) -> int:
        """CoRe heads outside the first third of the layers."""
        num_layers = len(self.num_core)
        return int(sum(count for layer, count in enumerate(self.num_core) if 3 * layer >= num_layers))


def depth_profile(grid: HeadGrid, *, name: str) -> DepthProfile:
    """Reduce each layer of a grid of heads."""
    num_layers = len(grid.values)
    mean, largest = np.full(num_layers, np.nan), np.full(num_layers, np.nan)
    first = list[HeadId | None]()
    for layer, values in enumerate(grid.values):
        known = values[np.isfinite(values)]
        if not known.size:
            first.append(None)
            continue
        mean[layer], largest[layer] = known.mean(), known.max()
        first.append(HeadId(layer, int(np.nanargmax(values))))
    num_core = np.bincount([head.layer for head in grid.core], minlength=num_layers)
    return DepthProfile(name, mean, largest, tuple(first), num_core)


def draw_depth(cells: Sequence[Axes], profiles: Sequence[DepthProfile], *, metric: str, theme: Theme) -> None:
    """Into three axes, one above the other: the largest head of each layer, the mean over its heads, its CoRe heads."""
    top, middle, bottom = cells
    width = BAR_WIDTH / len(profiles)
    for place, profile in enumerate(profiles):
        colour, marker = look(profile.name, theme)
        layers = np.arange(len(profile.mean))
        for axes, values in ((top, profile.largest), (middle, profile.mean)):
            axes.plot(layers, values, color=colour, linewidth=1.6, marker=marker, markersize=4.5, label=profile.name)
        shift = (place - (len(profiles) - 1) / 2) * width
        bottom.bar(layers + shift, profile.num_core, width=0.9 * width, color=colour)
    titles = (f"Largest {metric} of a layer's heads", f"Mean {metric} of a layer's heads", "CoRe heads of a layer")
    for axes, title in zip(cells, titles, strict=True):
        dress(axes, title=title, labels=("layer" if axes is bottom else "", ""), theme=theme)
        axes.grid(color=theme.rule, linewidth=0.6, axis="y")
        axes.set_axisbelow(True)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=axes is bottom))
    bottom.xaxis.set_major_locator(MaxNLocator(12, integer=True))
