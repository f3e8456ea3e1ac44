"""Every head's value on text needles against its value on image needles: which heads serve both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FormatStrFormatter

from rampipe.report.heatmap import HeadGrid
from rampipe.report.palette import REST, look
from rampipe.report.style import FONT, Theme, dress
from rampipe.types import HeadId

MAX_NAMED = 24
"""More names would lie on each other; the table has them all."""


@dataclass(frozen=True, slots=True)
class SharedHeads:
    """Heads of two top sets. image, text: values by layer and head, NaN for none."""

    image: Float[np.ndarray, "layer head"]
    text: Float[np.ndarray, "layer head"]
    shared: tuple[HeadId, ...]
    image_only: tuple[HeadId, ...]
    text_only: tuple[HeadId, ...]

    @property
    def sets(self) -> dict[str, tuple[HeadId, ...]]:
        """By name, in the order of the legend; the names are marks of the palette."""
        return {"shared": self.shared, "image only": self.image_only, "text only": self.text_only}

    @property
    def jaccard(self) -> float | None:
        """Heads in both sets over heads in either; null when both are empty."""
        either = sum(len(heads) for heads in self.sets.values())
        return len(self.shared) / either if either else None


def shared_heads(image: HeadGrid, text: HeadGrid) -> SharedHeads:
    """Compare two grids of one model by their sets of CoRe heads; each set highest first."""

    def ordered(heads: frozenset[HeadId], grid: HeadGrid) -> tuple[HeadId, ...]:
        return tuple(sorted(heads, key=lambda head: (-grid.values[head.layer, head.head], head)))

    return SharedHeads(
        image.values,
        text.values,
        shared=ordered(image.core & text.core, image),
        image_only=ordered(image.core - text.core, image),
        text_only=ordered(text.core - image.core, text),
    )


def draw_shared(axes: Axes, heads: SharedHeads, *, metric: str, theme: Theme) -> None:
    """Equal scales, so that what lies above the diagonal looks more at text than at images; by square roots, since most
    heads are near 0.
    """
    both = np.isfinite(heads.image) & np.isfinite(heads.text)
    values = np.stack([heads.image[both], heads.text[both]])
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0)) or 1.0
    axes.plot([low, high], [low, high], color=theme.muted, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    rest, marker = look(REST, theme)
    axes.scatter(*values, s=34, color=rest, marker=marker, alpha=0.6, linewidths=0, label="in neither set", zorder=2)
    is_named = sum(len(found) for found in heads.sets.values()) <= MAX_NAMED
    for name, found in heads.sets.items():
        colour, marker = look(name, theme)
        places = np.array([[grid[head.layer, head.head] for head in found] for grid in (heads.image, heads.text)])
        label = f"{name} ({len(found)})"
        axes.scatter(*places, s=42, color=colour, marker=marker, edgecolors=theme.paper, linewidths=0.7, label=label,
                     zorder=3)  # fmt: skip
        for head, place in zip(found if is_named else (), places.T, strict=False):
            axes.annotate(str(head), place, xytext=(5, 3), textcoords="offset points", fontsize=7, color=theme.ink,
                          family=FONT)  # fmt: skip
    labels = (f"mean {metric} on image needles (square-root scale)", f"mean {metric} on text needles")
    dress(axes, title="A point per head: image needles and text needles", labels=labels, theme=theme)
    _scale(axes, low, high)
    axes.grid(color=theme.rule, linewidth=0.6)
    axes.set_axisbelow(True)


def _scale(axes: Axes, low: float, high: float) -> None:
    """The same for both axes, with ticks near the squares of even steps, rounded to one digit."""
    ends = _signed_root(np.array([low, high]))
    steps = np.linspace(ends[0], ends[1], 7)
    rounded = np.unique([float(f"{value:.1g}") for value in _signed_square(steps).tolist()])
    is_apart = np.diff(_signed_root(rounded), prepend=-np.inf) > (steps[1] - steps[0]) / 2
    ticks = rounded[is_apart].tolist()
    room = 0.05 * float(ends[1] - ends[0])
    limits = _signed_square(np.array([ends[0] - room, ends[1] + room])).tolist()
    for set_scale, set_limits, axis in (
        (axes.set_xscale, axes.set_xlim, axes.xaxis),
        (axes.set_yscale, axes.set_ylim, axes.yaxis),
    ):
        set_scale("function", functions=(_signed_root, _signed_square))
        set_limits(*limits)
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(FormatStrFormatter("%g"))
    axes.set_box_aspect(1)


def _signed_root(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return np.sign(values) * np.sqrt(np.abs(values))


def _signed_square(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return np.sign(values) * values**2
