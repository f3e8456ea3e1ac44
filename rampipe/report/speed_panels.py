"""From the tables of speed to the panels of its figures: one per length of the context and quantity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import polars as pl

from rampipe.heads.scopes import OVERALL
from rampipe.report.arm_rows import arm_name, spell, unusual
from rampipe.report.palette import EVERY, NONE
from rampipe.report.speed_curve import SpeedPanel, SpeedPoint
from rampipe.tables.arms import BASE

Row = dict[str, Any]


class Quantity(NamedTuple):
    """A ratio to dense that a figure has on its x axis."""

    name: str
    title: str
    label: str


QUANTITIES = (
    Quantity("prefill", "Prefill", "prefill, times as fast as dense"),
    Quantity("decode", "Decode", "decoding, times as fast as dense"),
    Quantity("cache", "Cache", "dense cache over the cache that is kept"),
    Quantity("peak", "Peak memory", "dense peak memory over the arm's"),
)


def keep_row(row: Mapping[str, Any]) -> Row:
    """A row of speed.v1 with what rows of accuracy.v1 say of such arms."""
    return {**row, "kind": "keep", "mode": "hybrid", "positions": "all"}


def kept_name(row: Mapping[str, Any]) -> str:
    """`top 5 %`: what keeps full attention; `no head` and `every head` whatever the strategy."""
    alike = {0.0: "no head", 1.0: "every head"}.get(row["query_head_frac"])
    return alike or arm_name(keep_row(row)).replace("heads that are kept, ", "").replace(" [heads that are kept]", "")


def speed_panels(speed: pl.DataFrame, accuracy: pl.DataFrame, quantity: Quantity) -> list[SpeedPanel]:
    """A panel per length, ascending; none without an accuracy of the base, or where nothing was measured."""
    overall = accuracy.filter(pl.col("scope") == OVERALL, pl.col("accuracy").is_not_null())
    intervals = {row[0]: row[1:] for row in overall.select("arm_id", "accuracy", "low", "high").iter_rows()}
    base = intervals.get(BASE)
    known = speed.filter(pl.col(f"{quantity.name}_ratio").is_not_null(), pl.col("arm_id").is_in(list(intervals)))
    if base is None or known.is_empty():
        return []
    panels = list[SpeedPanel]()
    for (tokens,), part in known.sort("context_tokens").group_by("context_tokens", maintain_order=True):
        points = [_point(row, intervals[row["arm_id"]], quantity.name) for row in part.iter_rows(named=True)]
        ordered = sorted(points, key=lambda point: point.series)
        panels.append(SpeedPanel(f"{quantity.title}, {tokens:,} tokens", tuple(ordered), base))
    return panels


def _point(row: Row, accuracy: tuple[float, float, float], quantity: str) -> SpeedPoint:
    mark: str = {0.0: NONE, 1.0: EVERY}.get(row["query_head_frac"]) or row["strategy"]
    series = {NONE: "no head full", EVERY: "every head full"}.get(mark, spell(mark) + _otherwise(row))
    ratio = row[f"{quantity}_ratio"]
    low, high = (row.get(f"{quantity}_ratio_{end}", ratio) for end in ("low", "high"))
    return SpeedPoint(
        series=series,
        mark=mark,
        label=f"{row['frac'] * 100:.4g} %" if mark == "top" and not _otherwise(row) else "",
        gain=(ratio, low, high),
        accuracy=accuracy,
        is_path=mark == "top",
        is_hollow=bool(_otherwise(row)),
    )


def _otherwise(row: Row) -> str:
    """How the heads were chosen, where that is not per query head from the ranking of all samples."""
    return unusual({**keep_row(row), "kind": "ablate"})
