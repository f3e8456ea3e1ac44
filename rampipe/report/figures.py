"""The figures of a report as PNG bytes: each is a title, data and a theme, nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from rampipe.report.curve import ConcentrationCurve, draw_curve
from rampipe.report.depth_profile import DepthProfile, draw_depth
from rampipe.report.fraction_curve import FractionPanel, add_legend, draw_fractions
from rampipe.report.heatmap import HeadGrid, add_colour_bar, draw_heatmap, shared_norm
from rampipe.report.kind_scatter import SharedHeads, draw_shared
from rampipe.report.matrix import draw_matrix
from rampipe.report.speed_curve import SpeedPanel, draw_speed
from rampipe.report.style import Theme, drawable, new_figure, shortened, to_png

NUM_COLUMNS = 3


def heatmap(grid: HeadGrid, *, metric: str, theme: Theme) -> bytes:
    """Layer × head map of the mean of a metric over all samples."""
    figure = new_figure(6.4, 5.2, theme=theme)
    axes = figure.add_subplot()
    title = f"Mean {metric} of every head (CoRe heads outlined)"
    image = draw_heatmap(axes, grid, title=title, norm=shared_norm([grid]), theme=theme)
    add_colour_bar([axes], image, label=metric_label(metric), theme=theme)
    return to_png(figure)


def concentration(curve: ConcentrationCurve, *, metric: str, theme: Theme) -> bytes:
    """Sorted cumulative curve with the 50 % mark."""
    figure = new_figure(5.2, 5.2, theme=theme)
    draw_curve(figure.add_subplot(), curve, title=f"Share of the positive {metric} mass", theme=theme)
    return to_png(figure)


def headline(grid: HeadGrid, curve: ConcentrationCurve, *, metric: str, title: str, theme: Theme) -> bytes:
    """Heatmap and curve side by side: the picture of a README."""
    figure = new_figure(11.0, 4.9, theme=theme)
    figure.suptitle(drawable(shortened(title, 110)), fontsize=11, color=theme.ink, x=0.01, ha="left", parse_math=False)
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    heat_title = f"Mean {metric} of every head (CoRe heads outlined)"
    image = draw_heatmap(left, grid, title=heat_title, norm=shared_norm([grid]), theme=theme)
    add_colour_bar([left], image, label=metric_label(metric), theme=theme)
    draw_curve(right, curve, title=f"Share of the positive {metric} mass", theme=theme)
    return to_png(figure)


def depth(profiles: Sequence[DepthProfile], *, metric: str, theme: Theme) -> bytes:
    """Largest and mean value and CoRe heads of every layer, the layers of all three below each other."""
    figure = new_figure(7.0, 6.2, theme=theme)
    cells = figure.subplots(3, 1, sharex=True, height_ratios=(1.5, 1.2, 1)).tolist()
    draw_depth(cells, profiles, metric=metric, theme=theme)
    add_legend(cells[:1], theme=theme)
    return to_png(figure)


def shared(heads: SharedHeads, *, metric: str, theme: Theme) -> bytes:
    """Every head on image needles and on text needles."""
    figure = new_figure(6.0, 6.8, theme=theme)
    axes = figure.add_subplot()
    draw_shared(axes, heads, metric=metric, theme=theme)
    add_legend([axes], theme=theme)
    return to_png(figure)


def domain_heatmaps(grids: Mapping[str, HeadGrid], *, metric: str, theme: Theme) -> bytes:
    """One small map per domain on one colour scale."""
    num_columns = min(NUM_COLUMNS, len(grids))
    num_rows = math.ceil(len(grids) / num_columns)
    figure = new_figure(3.1 * num_columns + 0.9, 2.9 * num_rows, theme=theme)
    cells = figure.subplots(num_rows, num_columns, squeeze=False).ravel().tolist()
    norm = shared_norm(grids.values())
    images = [
        draw_heatmap(axes, grid, title=shortened(domain, 34), norm=norm, theme=theme)
        for axes, (domain, grid) in zip(cells, grids.items(), strict=False)
    ]
    for axes in cells[len(grids) :]:
        axes.set_axis_off()
    add_colour_bar(cells, images[0], label=metric_label(metric), theme=theme)
    return to_png(figure)


def overlap(values: Float[np.ndarray, "scope scope"], *, names: Sequence[str], measure: str, theme: Theme) -> bytes:
    """How many CoRe heads two scopes share."""
    side_in = 2.6 + 0.5 * len(names)
    figure = new_figure(side_in + 0.6, side_in, theme=theme)
    axes = figure.add_subplot()
    image = draw_matrix(axes, values, names=names, title="CoRe heads that two scopes share", theme=theme)
    add_colour_bar([axes], image, label=measure, theme=theme)
    return to_png(figure)


def fractions(panels: Sequence[FractionPanel], *, theme: Theme) -> bytes:
    """Accuracy over the share of heads that are silenced, a panel per way to silence them."""
    num_columns = min(2, len(panels))
    num_rows = math.ceil(len(panels) / num_columns)
    figure = new_figure(7.0 if num_columns == 1 else 10.2, 4.1 * num_rows + 0.5, theme=theme)
    cells = figure.subplots(num_rows, num_columns, squeeze=False).ravel().tolist()
    for axes, panel in zip(cells, panels, strict=False):
        draw_fractions(axes, panel, theme=theme)
    for axes in cells[len(panels) :]:
        axes.set_axis_off()
    add_legend(cells[: len(panels)], theme=theme)
    return to_png(figure)


def speed(panels: Sequence[SpeedPanel], *, label: str, theme: Theme) -> bytes:
    """Accuracy over a ratio to dense attention, a panel per length of the context."""
    num_columns = min(2, len(panels))
    num_rows = math.ceil(len(panels) / num_columns)
    figure = new_figure(7.0 if num_columns == 1 else 10.2, 3.9 * num_rows + 0.6, theme=theme)
    cells = figure.subplots(num_rows, num_columns, squeeze=False).ravel().tolist()
    for axes, panel in zip(cells, panels, strict=False):
        draw_speed(axes, panel, label=label, theme=theme)
    for axes in cells[len(panels) :]:
        axes.set_axis_off()
    add_legend(cells[: len(panels)], theme=theme)
    return to_png(figure)


def metric_label(metric: str) -> str:
    """Axis label with the unit of a metric; a metric that we do not know is named without one."""
    shares = ("ram", "ram_last", "ram_answer", "ram_calibrated", "visual_share")
    units = dict.fromkeys(shares, "share of attention") | {
        "density": "share of attention per token",
        "lift": "times the uniform density",
        "excess": "share of attention",
        "hit": "share of rows",
    }
    return f"mean {metric} ({units[metric]})" if metric in units else f"mean {metric}"
