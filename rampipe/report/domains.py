"""The section of the domains: what each measured, answered and ranked, and whether they use the same heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from rampipe.heads.accuracy import accuracy
from rampipe.report import figures
from rampipe.report.drawn import Drawn, drawn
from rampipe.report.numbers import ABSENT, counted, number, percent
from rampipe.report.ranked import Ranked, RankedScope
from rampipe.report.sources import Sources

MAX_DRAWN = 12
"""More domains would be too small to read: the figures show the largest, the table shows all."""


@dataclass(frozen=True, slots=True)
class DomainRow:
    """One domain as text; `accuracy` is null where nothing was predicted."""

    domain: str
    num_samples: int
    accuracy: float | None
    accuracy_text: str
    half: str
    first_head: str
    first_mean: str


@dataclass(frozen=True, slots=True)
class Domains:
    """`missing`: why there is nothing at all. `notes`: why a figure is not there."""

    missing: str = ""
    notes: tuple[str, ...] = ()
    rows: tuple[DomainRow, ...] = ()
    figures: tuple[Drawn, ...] = ()


def domain_rows(samples: pl.DataFrame, ranked: Ranked | None) -> tuple[DomainRow, ...]:
    """A row per domain that was measured, by name; the columns of the ranking are dashes until there is one."""
    scopes = {scope.name: scope for scope in ranked.domains} if ranked else {}
    columns = accuracy(samples.lazy()).slice(1).select("scope", "num_samples", "num_predicted", "accuracy")
    return tuple(_row(*counts, scope=scopes.get(counts[0])) for counts in columns.iter_rows())


def _row(
    domain: str, num_samples: int, num_predicted: int, correct: float | None, *, scope: RankedScope | None
) -> DomainRow:
    first = scope.first if scope else None
    curve = scope.curve if scope else None
    return DomainRow(
        domain=domain,
        num_samples=num_samples,
        accuracy=correct,
        accuracy_text="no predictions" if correct is None else f"{correct:.1%} of {num_predicted:,}",
        half=ABSENT if curve is None else f"{curve.num_heads_half} ({percent(curve.half_frac)})",
        first_head=ABSENT if first is None else str(first[0]),
        first_mean=ABSENT if first is None else number(first[1]),
    )


def domain_figures(rows: tuple[DomainRow, ...], ranked: Ranked) -> list[Drawn]:
    """Small heatmaps, one per domain, on one scale."""
    largest = sorted(rows, key=lambda row: (-row.num_samples, row.domain))[:MAX_DRAWN]
    shown = {row.domain for row in largest}
    grids = {scope.name: scope.grid for scope in ranked.domains if scope.name in shown}
    if len(grids) < 2:
        return []
    caption = f"Mean {ranked.metric} per domain, one colour scale: {', '.join(grids)}."
    if len(rows) > len(grids):
        caption += f" The {len(grids)} largest of {counted(len(rows), 'domain')}."
    return [
        drawn(
            "domains",
            lambda theme: figures.domain_heatmaps(grids, metric=ranked.metric, theme=theme),
            alt=f"One layer by head heatmap per domain: {', '.join(grids)}",
            caption=caption,
        )
    ]


def overlap_figure(overlap: pl.DataFrame, *, run_id: str) -> Drawn | None:
    """Jaccard index between the CoRe heads of the domains of this run; None with fewer than two."""
    here = overlap.filter((pl.col("run_a") == run_id) & (pl.col("run_b") == run_id))
    names = sorted({*here.get_column("scope_a"), *here.get_column("scope_b")})[:MAX_DRAWN]
    if len(names) < 2:
        return None
    place = {name: index for index, name in enumerate(names)}
    values = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(values, 1.0)
    for left, right, jaccard in here.select("scope_a", "scope_b", "jaccard").iter_rows():
        if left in place and right in place and jaccard is not None:
            values[place[left], place[right]] = values[place[right], place[left]] = jaccard
    return drawn(
        "overlap",
        lambda theme: figures.overlap(values, names=names, measure="Jaccard index (0 to 1)", theme=theme),
        alt=f"Jaccard index of the CoRe heads of each pair of domains: {', '.join(names)}",
        caption="Heads in both CoRe sets over heads in either. 0 is no head in common; 1 is the same heads.",
    )


def domains_section(sources: Sources, ranked: Ranked | None) -> Domains:
    """The table of domains, and the figures that exist."""
    rows = domain_rows(sources.samples, ranked)
    if not rows:
        return Domains("No sample was measured yet. Run `python -m jobs.capture --config FILE.toml`.")
    overlap = sources.table("ranking", "overlap")
    if ranked is None or overlap is None:
        return Domains(notes=("No heatmaps and no overlap: run `python -m jobs.rank RUN` first.",), rows=rows)
    shared = overlap_figure(overlap, run_id=sources.run.run_id)
    shown = [*domain_figures(rows, ranked), *([shared] if shared else [])]
    notes = () if shared else ("No overlap to show: the ranking compares fewer than two domains of this run.",)
    return Domains(notes=notes, rows=rows, figures=tuple(shown))
