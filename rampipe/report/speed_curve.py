"""Accuracy over what heads with full attention gain: the dense model is one point, every arm another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from rampipe.report.palette import DENSE, NONE, look
from rampipe.report.style import FONT, Theme, drawable, dress

CLOSE = 0.04
"""Share of the panel: labels of points that are nearer to each other would lie on each other."""


@dataclass(frozen=True, slots=True)
class SpeedPoint:
    """One arm at one length of the context.

    series: arms of one series share look and name. label: beside the point; empty for none. gain: ratio to dense with
    smallest and largest repetition. accuracy: with its Wilson interval. is_path: joined with the others of its series.
    is_hollow: chosen otherwise than per query head from the ranking of all samples.
    """

    series: str
    mark: str
    label: str
    gain: tuple[float, float, float]
    accuracy: tuple[float, float, float]
    is_path: bool
    is_hollow: bool


@dataclass(frozen=True, slots=True)
class SpeedPanel:
    """All arms at one length. base: accuracy of the dense model, with its interval."""

    title: str
    points: tuple[SpeedPoint, ...]
    base: tuple[float, float, float]


def draw_speed(axes: Axes, panel: SpeedPanel, *, label: str, theme: Theme) -> None:
    """Points with both error bars, the accuracy of the dense model across, its speed upright."""
    accuracy, low, high = panel.base
    axes.axhspan(low, high, color=theme.ink, alpha=0.07, linewidth=0)
    axes.axhline(accuracy, color=theme.ink, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.axvline(1.0, color=theme.ink, linewidth=0.9, linestyle=(0, (1, 2)))
    for series in dict.fromkeys(point.series for point in panel.points):
        _series(axes, [point for point in panel.points if point.series == series], theme=theme)
    star = look(DENSE, theme)
    axes.plot([1.0], [accuracy], linestyle="none", color=star.colour, marker=star.marker, markersize=11,
              label="dense attention, no head restricted", zorder=4)  # fmt: skip
    dress(axes, title=panel.title, labels=(label, "answered correctly (%)"), theme=theme)
    _scale(axes, panel)
    _name_points(axes, panel, theme=theme)
    axes.grid(color=theme.rule, linewidth=0.6)
    axes.set_axisbelow(True)


def _series(axes: Axes, points: Sequence[SpeedPoint], *, theme: Theme) -> None:
    style = look(points[0].mark, theme)
    gains, shares = [point.gain for point in points], [point.accuracy for point in points]
    axes.errorbar(
        [gain[0] for gain in gains], [share[0] for share in shares], xerr=_bars(gains), yerr=_bars(shares),
        color=style.colour, marker=style.marker, markersize=7, elinewidth=0.9, capsize=2, zorder=3,
        markerfacecolor=theme.paper if points[0].is_hollow else style.colour, label=points[0].series,
        linestyle="solid" if points[0].is_path else "none", linewidth=0.8, capthick=0.9,
        markeredgewidth=2.0 if points[0].mark == NONE else 0.8,
    )  # fmt: skip


def _bars(values: Sequence[tuple[float, float, float]]) -> list[list[float]]:
    below, above = ([max(0.0, sign * (value[end] - value[0])) for value in values] for sign, end in ((-1, 1), (1, 2)))
    return [below, above]


def _scale(axes: Axes, panel: SpeedPanel) -> None:
    """Dense and no gain are always in sight, with room for a label to the right."""
    ends = [1.0, *(end for point in panel.points for end in point.gain)]
    margin = max(0.05, 0.06 * (max(ends) - min(ends)))
    axes.set_xlim(min(ends) - margin, max(ends) + 2.4 * margin)
    axes.set_ylim(-0.04, 1.06)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ×"))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))


def _name_points(axes: Axes, panel: SpeedPanel, *, theme: Theme) -> None:
    """Labels right of their points; of those that would meet, each is farther away than the one before."""
    left, right = axes.get_xlim()
    named = sorted((point for point in panel.points if point.label), key=lambda point: point.gain[0])
    places = [(point.gain[0] / (right - left), point.accuracy[0]) for point in named]
    meets = [abs(x - u) < 3 * CLOSE and abs(y - v) < 2 * CLOSE for (x, y), (u, v) in pairwise(places)]
    turn = 0
    for point, is_close in zip(named, [False, *meets], strict=True):
        turn = turn + 1 if is_close else 0
        away = 9 * (turn // 2)
        axes.annotate(
            drawable(point.label), (point.gain[0], point.accuracy[0]), xytext=(6, -11 - away if turn % 2 else 5 + away),
            textcoords="offset points", fontsize=7.5, family=FONT, color=look(point.mark, theme).colour, zorder=5,
        )  # fmt: skip
