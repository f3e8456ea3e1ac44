"""From rows of `head_stats` to one value per (sample, head), in one streaming pass.

Each row is written to its own cell, so the order of rows, files and batches cannot matter; a cell that is written
twice or never is an error, and null stays apart from both. Memory: 9 bytes per cell, 180 MB for 20 million rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int64, UInt8

from rampipe.errors import ConfigError, DataError, IncompleteError
from rampipe.heads.exact import round_to_exact_grid
from rampipe.heads.metrics.metric import Metric
from rampipe.types import HeadId

_FIXED_POINT = 2.0**40
"""Masses as integers of 2**-40: their int64 sums are exact for up to 8 million samples."""
_ABSENT, _VALUE, _NULL = 0, 1, 2


@dataclass(frozen=True, slots=True)
class HeadValues:
    """One metric of one run. Samples are sorted by (context_key, sample_id), heads by (layer, head).

    samples: columns sample_index, sample_id, domain, context_key. values: NaN where undefined.
    elsewhere: summed mass on visual tokens outside the evidence, over the samples where the metric is defined, in
    units of 2**-40; a row per domain, sorted by name.
    """

    metric: str
    heads: tuple[HeadId, ...]
    samples: pl.DataFrame
    domains: tuple[str, ...]
    values: Float64[np.ndarray, "sample head"]
    elsewhere: Int64[np.ndarray, "domain head"]

    @property
    def defined(self) -> Bool[np.ndarray, "sample head"]:
        """Where the metric has a value."""
        return ~np.isnan(self.values)


def reduce_metric(head_stats: pl.LazyFrame, samples: pl.LazyFrame, metric: Metric) -> HeadValues:
    """Read the metric of every (sample, head).

    head_stats, samples: the tables of one run, `schemas/head_stats.v1.json` and `schemas/samples.v1.json`.
    Raises ConfigError when the metric's query group was not captured, DataError for duplicated keys, rows of unknown
    samples, values that are not finite, and a metric that is null everywhere, IncompleteError for absent rows.
    """
    known = _ordered_samples(samples, metric)
    heads = _heads(head_stats, metric)
    cells = _Cells.empty(known, heads)
    rows = _metric_rows(head_stats, known, metric)
    for batch in rows.collect_batches(maintain_order=False, engine="streaming"):
        cells.add(batch)
    cells.check(rows, metric)
    round_to_exact_grid(cells.values)
    shown = known.select("sample_index", "sample_id", "domain", "context_key")
    return HeadValues(metric.ID, tuple(heads), shown, cells.domains, cells.values, cells.elsewhere)


def _ordered_samples(samples: pl.LazyFrame, metric: Metric) -> pl.DataFrame:
    columns = ["sample_id", "domain", "context_key", *metric.COUNTS]
    known = samples.select(columns).sort("context_key", "sample_id").collect(engine="streaming")
    if known.is_empty():
        raise DataError("samples: the run has no measured sample, so nothing can be ranked. See its errors table.")
    twice = known.filter(pl.col("sample_id").is_duplicated()).get_column("sample_id")
    if len(twice):
        raise DataError(
            f"samples: sample_id {twice.min()!r} has {(twice == twice.min()).sum()} rows, allowed 1 "
            f"({twice.n_unique()} ids are duplicated). Run verify on the run."
        )
    return known.with_row_index("sample_index")


def _heads(head_stats: pl.LazyFrame, metric: Metric) -> list[HeadId]:
    """All heads of the metric's query group."""
    captured = head_stats.filter(pl.col("query") == metric.QUERY)
    found = captured.select("layer", "head").unique().sort("layer", "head").collect(engine="streaming")
    if found.is_empty():
        groups = sorted(head_stats.select(pl.col("query").unique()).collect(engine="streaming").get_column("query"))
        raise ConfigError(
            f"rank.metric = {metric.ID!r} needs query group {metric.QUERY!r}, but the run captured {groups}. "
            f"Add {metric.QUERY!r} to capture.queries and capture again, or choose another metric."
        )
    return [HeadId(layer, head) for layer, head in found.iter_rows()]


def _metric_rows(head_stats: pl.LazyFrame, known: pl.DataFrame, metric: Metric) -> pl.LazyFrame:
    """sample_id (null when known), sample_index, domain_index, layer, head, value, elsewhere."""
    domain = (pl.col("domain").rank("dense") - 1).cast(pl.Int64).alias("domain_index")
    lookup = known.select("sample_id", pl.col("sample_index").cast(pl.Int64), domain, *metric.COUNTS)
    elsewhere = (pl.col("mass_evidence_image_rest").cast(pl.Float64) + pl.col("mass_other_visual")) * _FIXED_POINT
    return (
        head_stats.filter(pl.col("query") == metric.QUERY)
        .join(lookup.lazy(), on="sample_id", how="left")
        .select(
            pl.when(pl.col("sample_index").is_null()).then("sample_id").alias("stranger"),
            pl.col("sample_index").fill_null(0),
            pl.col("domain_index").fill_null(0),
            pl.col("layer", "head").cast(pl.Int64),
            metric.expression().alias("value"),
            elsewhere.round().cast(pl.Int64).alias("elsewhere"),
        )
    )


@dataclass(slots=True)
class _Cells:
    """The matrices while they are filled."""

    known: pl.DataFrame
    domains: tuple[str, ...]
    heads: list[HeadId]
    head_index: Int64[np.ndarray, "layer head_of_layer"]
    values: Float64[np.ndarray, "sample head"]
    state: UInt8[np.ndarray, "sample head"]
    elsewhere: Int64[np.ndarray, "domain head"]
    num_rows: int = 0

    @classmethod
    def empty(cls, known: pl.DataFrame, heads: list[HeadId]) -> _Cells:
        shape = (known.height, len(heads))
        domains = tuple(known.get_column("domain").unique().sort())
        lookup = np.full((max(head.layer for head in heads) + 1, max(head.head for head in heads) + 1), -1)
        for index, head in enumerate(heads):
            lookup[head.layer, head.head] = index
        elsewhere = np.zeros((len(domains), len(heads)), dtype=np.int64)
        return cls(known, domains, heads, lookup, np.full(shape, np.nan), np.zeros(shape, np.uint8), elsewhere)

    def add(self, batch: pl.DataFrame) -> None:
        strangers = batch.get_column("stranger").drop_nulls()
        if len(strangers):
            raise DataError(
                f"head_stats: sample {strangers.min()!r} has rows but is not in the samples table. "
                "Run verify on the run: files of another run may have been mixed in."
            )
        sample = batch.get_column("sample_index").to_numpy()
        head = self.head_index[batch.get_column("layer").to_numpy(), batch.get_column("head").to_numpy()]
        defined = batch.get_column("value").is_not_null().to_numpy()
        value = batch.get_column("value").fill_null(np.nan).to_numpy()
        if not np.isfinite(value[defined]).all():
            wrong = int(np.flatnonzero(defined & ~np.isfinite(value))[0])
            name = self._name(int(sample[wrong]), int(head[wrong]))
            raise DataError(f"head_stats: {name}: value {value[wrong]} is not finite. Run verify on the run.")
        self.values[sample, head] = value
        self.state[sample, head] = np.where(defined, _VALUE, _NULL)
        domain = batch.get_column("domain_index").to_numpy()[defined]
        np.add.at(self.elsewhere, (domain, head[defined]), batch.get_column("elsewhere").to_numpy()[defined])
        self.num_rows += batch.height

    def check(self, rows: pl.LazyFrame, metric: Metric) -> None:
        """Every cell was written exactly once, and at least one has a value."""
        filled = int(np.count_nonzero(self.state))
        if self.num_rows > filled:
            self._refuse_duplicates(rows, metric)
        if filled < self.state.size:
            sample, head = divmod(int(np.flatnonzero(self.state == _ABSENT)[0]), self.state.shape[1])
            raise IncompleteError(
                f"head_stats: {self._name(sample, head)} has no {metric.QUERY} row: {filled} of {self.state.size} rows "
                f"({self.state.shape[0]} samples x {self.state.shape[1]} heads) are there. Run verify, then capture."
            )
        if not (self.state == _VALUE).any():
            raise DataError(
                f"rank.metric = {metric.ID!r} is null for all {self.state.shape[0]} samples: {metric.UNDEFINED}. "
                "Choose another metric, or capture again."
            )

    def _refuse_duplicates(self, rows: pl.LazyFrame, metric: Metric) -> None:
        key = ["sample_index", "layer", "head"]
        counted = rows.group_by(key).len().filter(pl.col("len") > 1)
        found = counted.sort(key).head(1).collect(engine="streaming").row(0, named=True)
        head = self.heads.index(HeadId(found["layer"], found["head"]))
        raise DataError(
            f"head_stats: {self._name(found['sample_index'], head)}, query {metric.QUERY!r}, has {found['len']} rows, "
            "allowed 1. Run verify on the run: a file may be there twice."
        )

    def _name(self, sample: int, head: int) -> str:
        return f"sample {self.known.get_column('sample_id')[sample]!r}, head {self.heads[head]}"
