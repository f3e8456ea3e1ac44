"""Layer × head map of a metric: the shape of retrieval in a model at one glance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from rampipe.report.style import FONT, Theme, dress
from rampipe.types import HeadId


@dataclass(frozen=True, slots=True)
class HeadGrid:
    """One value per head, and the heads of class `core`.

    values: NaN where a layer has no such head or the head no value; row i is layer i of the model.
    """

    values: Float[np.ndarray, "layer head"]
    core: frozenset[HeadId]


def head_grid(values: Iterable[tuple[HeadId, float | None]], *, core: Iterable[HeadId]) -> HeadGrid:
    """Lay heads out by layer and index; what has no value stays NaN."""
    pairs = list(values)
    num_layers = 1 + max((head.layer for head, _ in pairs), default=0)
    num_heads = 1 + max((head.head for head, _ in pairs), default=0)
    grid = np.full((num_layers, num_heads), np.nan)
    for head, value in pairs:
        grid[head.layer, head.head] = np.nan if value is None else value
    return HeadGrid(grid, frozenset(core))


def shared_norm(grids: Iterable[HeadGrid]) -> Normalize:
    """One colour scale for all grids: from 0, or symmetric around 0 where a metric has negative values."""
    finite = np.concatenate([[0.0], *[grid.values[np.isfinite(grid.values)] for grid in grids]])
    largest = float(np.abs(finite).max()) or 1.0
    return Normalize(vmin=-largest if finite.min() < 0 else 0.0, vmax=largest)


def draw_heatmap(axes: Axes, grid: HeadGrid, *, title: str, norm: Normalize, theme: Theme) -> AxesImage:
    """Layers run upward from the input, heads to the right; CoRe heads are outlined, absent heads are grey."""
    colours = colormaps["PuOr_r" if norm.vmin else "viridis"].with_extremes(bad=theme.absent)
    image = axes.imshow(
        np.ma.masked_invalid(grid.values),
        cmap=colours,
        norm=norm,
        origin="lower",
        interpolation="nearest",
        aspect="auto",
    )
    num_layers, num_heads = grid.values.shape
    width = float(np.clip(36 / max(num_layers, num_heads), 0.5, 1.5))
    for head in grid.core:
        corner = (head.head - 0.5, head.layer - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor=theme.accent, linewidth=width, clip_on=False))
    dress(axes, title=title, labels=("head", "layer"), theme=theme)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def add_colour_bar(axes: list[Axes], image: AxesImage, *, label: str, theme: Theme) -> None:
    """The scale of a heatmap, beside the axes that share it."""
    figure = axes[0].figure
    bar = figure.colorbar(image, ax=axes, shrink=0.85, aspect=28, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=theme.muted, labelsize=8, length=0, labelfontfamily=FONT)
    bar.set_label(label, fontsize=8.5, color=theme.muted, family=FONT, parse_math=False)
