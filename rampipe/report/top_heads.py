"""The section of the first heads: mean with interval, how sure their place is, and their share of the mass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rampipe.report.numbers import ABSENT, number, percent
from rampipe.report.ranked import RankedScope
from rampipe.types import HeadId

NUM_ROWS = 20


@dataclass(frozen=True, slots=True)
class HeadRow:
    """One head as text; `dot` and `line` (left, width) are percent of the scale, null without a value."""

    rank: int
    head: str
    class_name: str
    mean: str
    interval: str
    dot: float | None
    line: tuple[float, float] | None
    selected: float | None
    selected_text: str
    share: str
    cumulative: str


@dataclass(frozen=True, slots=True)
class TopHeads:
    """`missing`: why there is no table, or empty."""

    missing: str = ""
    rows: tuple[HeadRow, ...] = ()
    num_core: int = 0
    interval: str = ""
    scale: tuple[str, str] = ("", "")


def top_heads(scope: RankedScope, *, confidence: str) -> TopHeads:
    """The first heads of a scope, on one scale that holds all their intervals."""
    best = [row for row in scope.rows.head(NUM_ROWS).iter_rows(named=True) if row["rank"] is not None]
    if not best:
        return TopHeads(missing="No head has a value of this metric in this run.")
    values = [row[name] for row in best for name in ("mean", "low", "high") if row[name] is not None]
    low, high = min(0.0, *values), max(values)
    rows = tuple(_row(row, low=low, width=(high - low) or 1.0) for row in best)
    return TopHeads("", rows, len(scope.core), confidence, (number(low), number(high)))


def _row(row: Mapping[str, Any], *, low: float, width: float) -> HeadRow:
    def place(value: float) -> float:
        return round(100 * (value - low) / width, 2)

    low_end, high_end = row["low"], row["high"]
    known = low_end is not None and high_end is not None
    return HeadRow(
        rank=row["rank"],
        head=str(HeadId(row["layer"], row["head"])),
        class_name=row["class"] or ABSENT,
        mean=number(row["mean"]),
        interval=f"{number(low_end)} – {number(high_end)}" if known else ABSENT,
        dot=place(row["mean"]),
        line=None
        if low_end is None or high_end is None
        else (place(low_end), round(place(high_end) - place(low_end), 2)),
        selected=row["selection_probability"],
        selected_text=percent(row["selection_probability"]),
        share=percent(row["share_of_positive_mass"]),
        cumulative=percent(row["cumulative_share"]),
    )
