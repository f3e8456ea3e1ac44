"""A square map of how alike the scopes are: overlap of their CoRe heads, written into the cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage

from rampipe.report.style import FONT, Theme, drawable, dress, shortened


def draw_matrix(
    axes: Axes, values: Float[np.ndarray, "scope scope"], *, names: Sequence[str], title: str, theme: Theme
) -> AxesImage:
    """Cells in [0, 1] with their value; a pair without a value is grey and empty."""
    colours = colormaps["cividis"].with_extremes(bad=theme.absent)
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colours, norm=Normalize(0, 1), interpolation="nearest")
    dress(axes, title=title, labels=("", ""), theme=theme)
    labels = [drawable(shortened(name, 22)) for name in names]
    style: dict[str, Any] = {"fontsize": 8, "color": theme.ink, "family": FONT, "parse_math": False}
    axes.set_xticks(range(len(names)), labels, rotation=40, ha="right", rotation_mode="anchor", **style)
    axes.set_yticks(range(len(names)), labels, **style)
    axes.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = "#ffffff" if value < 0.55 else "#1c2024"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink, family=FONT)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image
