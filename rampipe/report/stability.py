"""The section of the stability: would half of the data have given the same ranking?"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from rampipe.heads.scopes import OVERALL
from rampipe.report.numbers import ABSENT, percent
from rampipe.report.sources import Sources

COLUMNS = (
    "scope",
    "contexts",
    "splits",
    "r of the halves",
    "reliability of all",
    "rank r of the halves",
    "rank reliability of all",
    "Jaccard of CoRe heads",
    "middle 95 % of splits",
)


@dataclass(frozen=True, slots=True)
class StabilitySection:
    """`missing`: why there is no table, or empty. Rows have one text per column."""

    missing: str = ""
    columns: tuple[str, ...] = COLUMNS
    rows: tuple[tuple[str, ...], ...] = ()
    note: str = ""


def stability_section(sources: Sources) -> StabilitySection:
    """Overall first, then the domains by name."""
    table = sources.table("ranking", "stability")
    if table is None:
        return StabilitySection("No stability table: run `python -m jobs.rank RUN`.")
    ordered = table.sort(pl.col("scope") != OVERALL, "scope")
    rows = tuple(
        (
            row["scope"],
            f"{row['num_clusters']:,}",
            f"{row['num_splits']:,}",
            *(_two(row[name]) for name in ("pearson", "reliability", "spearman", "rank_reliability", "jaccard")),
            ABSENT if row["jaccard_low"] is None else f"{_two(row['jaccard_low'])} – {_two(row['jaccard_high'])}",
        )
        for row in ordered.iter_rows(named=True)
    )
    note = (
        "Contexts are split into two random halves, many times. r is the correlation between the head means of the "
        "halves; reliability is what it would be for all data (Spearman-Brown). A dash: fewer than two contexts, or "
        "undefined."
    )
    return StabilitySection(rows=rows, note=note)


def overall_reliability(sources: Sources) -> tuple[str, str]:
    """Value and detail of the tile."""
    table = sources.table("ranking", "stability")
    rows = table.filter(pl.col("scope") == OVERALL) if table is not None else None
    if rows is None or rows.is_empty():
        return ABSENT, "not ranked yet: python -m jobs.rank RUN"
    row = rows.row(0, named=True)
    if row["reliability"] is None:
        return ABSENT, "undefined: too few contexts, or the halves disagree"
    return _two(row["reliability"]), f"{row['num_splits']} splits; halves share {percent(row['jaccard'])} (Jaccard)"


def _two(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"
