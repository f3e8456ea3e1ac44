"""The two bottom controls side by side: the lowest heads, and the lowest that the text-only control does not need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from rampipe.heads.scopes import OVERALL
from rampipe.heads.screen import TOLERANCE, is_needed, screened_bands
from rampipe.heads.strategies import bottom, bottom_idle
from rampipe.heads.verdict.outcomes import CONTROL
from rampipe.report.arm_rows import arm_name, cell
from rampipe.report.numbers import counted
from rampipe.types import HeadId

Row = dict[str, Any]

COLUMNS = ("lowest heads", "all domains", "text-only control", "query heads")
MAX_NAMED = 8
NOT_SCREENED = (
    "Only the lowest heads by the metric were silenced. Heads that read the question or write the answer look at no "
    "evidence either, so they may be among them. To hold the lowest idle heads against them, name bottom_idle in "
    "ablate.strategies and a split of text-only samples in ablate.screen_split, then run "
    "`python -m jobs.ablate RUN --config FILE` again."
)

WHY = (
    "A low value says that a head does not look at the evidence, not that it does nothing: heads that read the "
    "question, follow the text or write the answer are as low. Where the lowest heads cost answers and the lowest idle "
    "ones do not, such heads were among the lowest."
)

SAME = "Both are the same heads: the text-only control needs none of the lowest."


@dataclass(frozen=True, slots=True)
class Bottoms:
    """`missing`: why the two are not compared; empty with it and without rows: no lowest heads were silenced."""

    missing: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    columns: tuple[str, ...] = COLUMNS
    note: str = ""


def bottoms(accuracy: pl.DataFrame, main: list[Row], arms: pl.DataFrame, screen: pl.DataFrame | None) -> Bottoms:
    """main: arms of the first way to silence heads. screen: its accuracies, where one was made."""
    lowest = [row for row in main if row["strategy"] in (bottom.ID, bottom_idle.ID)]
    found = {row["strategy"] for row in lowest}
    if bottom_idle.ID not in found:
        return Bottoms(NOT_SCREENED if found else "")
    heads = dict(arms.select("arm_id", "heads").iter_rows())
    chosen = [heads[row["arm_id"]] for row in lowest]
    is_same = len(chosen) > 1 and all(one == chosen[0] for one in chosen)
    return Bottoms(
        rows=tuple(_row(accuracy, row, heads[row["arm_id"]]) for row in lowest),
        note=f"{SAME if is_same else WHY} {_screened(screen)}",
    )


def _row(accuracy: pl.DataFrame, row: Row, heads: list[Row]) -> tuple[str, ...]:
    of_arm = accuracy.filter(pl.col("arm_id") == row["arm_id"])
    names = [str(HeadId(head["layer"], head["head"])) for head in heads]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    scopes = (cell(of_arm.filter(pl.col("scope") == scope)) for scope in (OVERALL, CONTROL))
    return (arm_name(row), *scopes, ", ".join(names[:MAX_NAMED]) + more)


def _screened(screen: pl.DataFrame | None) -> str:
    bands = [] if screen is None else screened_bands(screen)
    if not bands:
        return "The table of the screen is not here."
    num_needed = sum(is_needed(band) for band in bands)
    return (
        f"The screen silenced the lower half of the ranking in {counted(len(bands), 'band')}, one at a time, on "
        f"{counted(bands[0]['num_samples'], 'other text-only sample')}. {counted(num_needed, 'band')} cost more than "
        f"{TOLERANCE:g} of right answers, or {TOLERANCE:g} nats per token of the reference answer: they are needed. "
        "Bands that stand in for each other are not found that way. All are in screen/accuracy.parquet."
    )
