"""How few heads hold the mass: cumulative share of the positive mass over heads, sorted from the largest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from rampipe.report.style import FONT, Theme, dress


@dataclass(frozen=True, slots=True)
class ConcentrationCurve:
    """Cumulative share of the positive mass by rank, and how many heads reach half of it.

    cumulative: rises to 1; entry i is what the i + 1 first heads hold. num_heads: of the model; more than entries
    where heads have no value. num_heads_half: fewest heads that hold half.
    """

    cumulative: Float[np.ndarray, " head"]
    num_heads: int
    num_heads_half: int

    @property
    def half_frac(self) -> float:
        """Share of all heads that hold half of the positive mass."""
        return self.num_heads_half / self.num_heads


def draw_curve(axes: Axes, curve: ConcentrationCurve, *, title: str, theme: Theme) -> None:
    """The curve, the diagonal that equal heads would give, and the 50 % mark."""
    share_of_heads = np.arange(len(curve.cumulative) + 1) / curve.num_heads
    axes.plot([0, 1], [0, 1], color=theme.muted, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.plot(share_of_heads, np.concatenate([[0.0], curve.cumulative]), color=theme.second, linewidth=1.8)
    axes.text(0.62, 0.57, "all heads equal", fontsize=8, color=theme.muted, family=FONT, va="top")
    _mark_half(axes, curve, theme=theme)
    labels = ("share of heads, largest mean first (%)", "share of the positive mass (%)")
    dress(axes, title=title, labels=labels, theme=theme)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.01)
    axes.grid(color=theme.rule, linewidth=0.6)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=""))


def _mark_half(axes: Axes, curve: ConcentrationCurve, *, theme: Theme) -> None:
    reached = float(curve.cumulative[curve.num_heads_half - 1])
    axes.axhline(0.5, color=theme.accent, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.plot([curve.half_frac, curve.half_frac], [0, reached], color=theme.accent, linewidth=0.9)
    axes.plot([curve.half_frac], [reached], marker="o", markersize=5, color=theme.accent)
    heads = "head holds" if curve.num_heads_half == 1 else "heads hold"
    right = curve.half_frac < 0.55
    axes.annotate(
        f"{curve.num_heads_half} {heads} half\n({curve.half_frac:.1%} of {curve.num_heads:,})",
        xy=(curve.half_frac, 0.5),
        xytext=(9 if right else -9, -9),
        textcoords="offset points",
        ha="left" if right else "right",
        va="top",
        fontsize=8.5,
        color=theme.ink,
        family=FONT,
        bbox={"facecolor": theme.paper, "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
    )
