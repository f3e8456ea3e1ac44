"""A ranking as text for the terminal."""

from __future__ import annotations

import io
from collections.abc import Iterator

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from rampipe.heads.rank import Ranking
from rampipe.heads.scopes import OVERALL

NUM_SHOWN = 10
_WIDTH = 100
_ABSENT = "–"


def print_summary(ranking: Ranking) -> None:
    """Print `summary_lines`."""
    print("\n".join(summary_lines(ranking)))


def summary_lines(ranking: Ranking) -> list[str]:
    """What was ranked, the first heads overall, how concentrated each scope is, and how the model answered."""
    return [
        *_header(ranking),
        *_top_heads(ranking),
        *_concentration(ranking),
        *_comparison(ranking),
        *_accuracy(ranking),
    ]


def _header(ranking: Ranking) -> Iterator[str]:
    if ranking.partial is not None:
        done = ranking.partial
        yield (
            f"PARTIAL: {done['num_committed']} of {done['num_units']} units, {done['num_ok']} of "
            f"{done['num_samples']} samples measured: {'; '.join(done['problems'])}"
        )
    every = ranking.concentration.filter(pl.col("scope") == OVERALL).row(0, named=True)
    yield f"run {ranking.run_id}"
    if ranking.stopped is not None:
        yield ranking.stopped
    yield (
        f"metric {ranking.config.metric}: {every['num_samples']} samples in {every['num_clusters']} contexts"
        f" ({every['num_null']} without a value, {ranking.num_errors} errors), {every['num_heads']} heads,"
        f" {every['num_core']} CoRe (top {ranking.config.k_frac:.1%})"
    )


def _top_heads(ranking: Ranking) -> list[str]:
    table = Table(box=box.SIMPLE, title=None)
    columns = ("rank", "head", "mean", f"{ranking.config.confidence:.0%} interval", "selected", "share", "class")
    for column in columns:
        table.add_column(column, justify="left" if column == "class" else "right")
    rows = ranking.ranking.filter(pl.col("scope") == OVERALL, pl.col("rank") <= NUM_SHOWN).sort("rank")
    for row in rows.iter_rows(named=True):
        interval = _ABSENT if row["low"] is None else f"{_number(row['low'])} to {_number(row['high'])}"
        head = f"{row['layer']}.{row['head']}"
        share, selected = _share(row["share_of_positive_mass"]), _share(row["selection_probability"])
        table.add_row(str(row["rank"]), head, _number(row["mean"]), interval, selected, share, row["class"])
    console = Console(file=io.StringIO(), width=_WIDTH, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]


def _concentration(ranking: Ranking) -> Iterator[str]:
    for row in ranking.concentration.iter_rows(named=True):
        mass = f"{row['scope']}: half of the positive {ranking.config.metric} mass"
        if row["half_mass_heads"] is None:
            yield f"{mass} does not exist: no head has a positive mean ({row['num_null']} samples without a value)"
            continue
        yield (
            f"{mass} sits in {row['half_mass_frac']:.1%} of heads "
            f"({row['half_mass_heads']} of {row['num_heads']}; {row['num_samples'] - row['num_null']} samples)"
        )


def _comparison(ranking: Ranking) -> Iterator[str]:
    """Runs compared with this one; domains within a run are in the report."""
    between = ranking.overlap.filter(pl.col("run_a") != pl.col("run_b"), pl.col("scope_a") == OVERALL)
    for row in between.iter_rows(named=True):
        yield (
            f"{row['run_a']} and {row['run_b']} share {row['num_shared']} of {row['num_core']} CoRe heads "
            f"(Jaccard {_number(row['jaccard'])}, rank correlation {_number(row['spearman'])})"
        )


def _accuracy(ranking: Ranking) -> Iterator[str]:
    for row in ranking.accuracy.iter_rows(named=True):
        if row["num_predicted"] == 0:
            yield f"{row['scope']}: accuracy unknown, no predictions ({row['num_samples']} samples)"
            continue
        absent = row["num_samples"] - row["num_predicted"]
        yield (
            f"{row['scope']}: accuracy {row['accuracy']:.1%} ({row['num_correct']} of {row['num_predicted']}"
            + (f"; {absent} without a prediction)" if absent else ")")
        )


def _number(value: float | None) -> str:
    """Four significant digits."""
    return _ABSENT if value is None else f"{value:.4g}"


def _share(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.1%}"
