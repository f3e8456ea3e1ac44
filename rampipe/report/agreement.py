"""The section of agreement: do lists of other methods name the same heads?"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from rampipe.heads.agreement import Agreement, agree
from rampipe.heads.lists import plain
from rampipe.heads.lists.run_lists import shape_of
from rampipe.heads.scopes import OVERALL
from rampipe.report.numbers import ABSENT
from rampipe.report.sources import LISTS, Sources
from rampipe.types import HeadId

COLUMNS = (
    "list",
    "heads listed",
    "top set",
    "shared",
    "by chance",
    "Jaccard",
    "rank-biased overlap",
    "Spearman",
    "Kendall",
)
NOTE = (
    "Top set: our CoRe heads and as many of the list's first, or all of it when it is shorter. By chance: what two "
    "random sets of that size share on average. Rank-biased overlap: of these sets, the first heads counting most. "
    "Correlations are over all heads that both score; a dash: fewer than three, or undefined. A list's metric is its "
    "author's: disagreement is no error of either."
)


@dataclass(frozen=True, slots=True)
class AgreementSection:
    """`missing`: why there is no table, or empty. Rows have one text per column."""

    missing: str = ""
    columns: tuple[str, ...] = COLUMNS
    rows: tuple[tuple[str, ...], ...] = ()
    note: str = NOTE


def agreement_section(sources: Sources) -> AgreementSection:
    """A row per imported list, by name. Raises ConfigError for a list that no longer fits the ranking."""
    paths = sorted(path for path in sources.files if path.startswith(f"{LISTS}/"))
    table = sources.table("ranking", "ranking")
    if not paths or table is None:
        return AgreementSection(
            "None to compare with: rank, then run `rampipe heads import RUN FILE --format NAME`, then report again."
        )
    overall = table.filter(pl.col("scope") == OVERALL)
    means = {HeadId(layer, head): mean for layer, head, mean in overall.select("layer", "head", "mean").iter_rows()}
    k_frac = float(sources.ranking_from["rank"]["k_frac"])
    rows = list[tuple[str, ...]]()
    for path in paths:
        found = plain.parse(sources.files[path], shape_of(means))
        name = path.removeprefix(f"{LISTS}/").removesuffix(".json")
        rows.append(_row(name, agree(means, found, k_frac=k_frac)))
    return AgreementSection(rows=tuple(rows))


def _row(name: str, found: Agreement) -> tuple[str, ...]:
    return (
        name,
        f"{found.num_listed:,}",
        f"{found.size:,}",
        f"{found.num_shared:,}",
        f"{found.num_expected:.1f}",
        *(_two(value) for value in (found.jaccard, found.rank_biased_overlap, found.spearman, found.kendall)),
    )


def _two(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"
