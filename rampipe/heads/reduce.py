"""From rows of `head_stats` to sums per cluster and head, in one streaming pass over the files.

Each file becomes a matrix, is rounded to a grid on which sums are exact, and added: so the order of rows, files and
threads cannot matter, and memory does not grow with rows. A row that is there twice or never is an error, and null
stays apart from both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int64

from rampipe.errors import ConfigError, DataError, IncompleteError
from rampipe.heads.blocks import Block, Wanted, heads_of, query_groups, read_block
from rampipe.heads.clusters import Clusters, cluster_samples
from rampipe.heads.exact import exact_step
from rampipe.heads.layout import Layouts, Part
from rampipe.heads.metrics.metric import Metric
from rampipe.types import HeadId

NUM_THREADS = 2
"""Files that are decoded at once; Arrow and numpy release the interpreter for most of it."""
_AHEAD = 2


@dataclass(frozen=True, slots=True)
class HeadSums:
    """One metric of one run. Samples are sorted by (context_key, sample_id), heads by (layer, head).

    samples: sample_id, domain, context_key, defined (for any head). sums, counts: of the defined values, a row as in
    `clusters`; `counts` has one column when it is the same for all heads. elsewhere: summed mass on visual tokens
    outside the evidence, over the same values, in units of 2**-40.
    """

    metric: str
    heads: tuple[HeadId, ...]
    samples: pl.DataFrame
    clusters: Clusters
    sums: Float64[np.ndarray, "row head"]
    counts: Float64[np.ndarray, " row #head"]
    elsewhere: Int64[np.ndarray, "domain head"]


def reduce_metric(parts: Sequence[Part], samples: pl.LazyFrame, metric: Metric) -> HeadSums:
    """Read the metric of every (sample, head); every sample's rows lie in one part.

    parts: `schemas/head_stats.v1.json`, samples: `schemas/samples.v1.json`, of one run.
    Raises ConfigError when the metric's query group was not captured, DataError for duplicated keys, rows of unknown
    samples, values that are not finite, and a metric that is null everywhere, IncompleteError for absent rows.
    """
    known = _ordered_samples(samples, metric)
    wanted = _wanted(parts, known, metric)
    sums = _Sums.zero(wanted)
    for block in _blocks(parts, wanted):
        sums.add(block)
    return sums.finished()


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
    return known


def _wanted(parts: Sequence[Part], known: pl.DataFrame, metric: Metric) -> Wanted:
    """Heads are those of the first part that has the query group."""
    heads = next((found for found in (heads_of(part, metric) for part in parts) if found), ())
    if not heads:
        groups = sorted({name for part in parts for name in query_groups(part)})
        raise ConfigError(
            f"rank.metric = {metric.ID!r} needs query group {metric.QUERY!r}, but the run captured {groups}. "
            f"Add {metric.QUERY!r} to capture.queries and capture again, or choose another metric."
        )
    ids = known.get_column("sample_id").to_list()
    largest = max((float(known.get_column(name).to_numpy().max()) for name in metric.COUNTS), default=1.0)
    bound = max(largest, 1.0)  # masses and their differences are at most 1, ratios to counts at most the count
    return Wanted(
        metric=metric,
        heads=heads,
        samples=known,
        index={sample_id: place for place, sample_id in enumerate(ids)},
        clusters=cluster_samples(known, num_heads=len(heads)),
        layouts=Layouts(metric.QUERY, heads),
        step=exact_step(bound, len(ids)),
        limit=2.0 * bound,
    )


def _blocks(parts: Sequence[Part], wanted: Wanted) -> Iterator[Block]:
    """Of each part in order, read a few ahead."""
    waiting = deque[Future[Block]]()
    with ThreadPoolExecutor(NUM_THREADS) as readers:
        try:
            for part in parts:
                waiting.append(readers.submit(read_block, part, wanted))
                if len(waiting) > NUM_THREADS + _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


@dataclass(slots=True)
class _Sums:
    """The sums while they grow. whole: samples defined for every head; partly: where some are, a count per head."""

    wanted: Wanted
    sums: Float64[np.ndarray, "row head"]
    whole: Float64[np.ndarray, " row"]
    partly: Float64[np.ndarray, "row head"] | None
    elsewhere: Int64[np.ndarray, "domain head"]
    seen: Bool[np.ndarray, " sample"]
    defined: Bool[np.ndarray, " sample"]

    @classmethod
    def zero(cls, wanted: Wanted) -> _Sums:
        shape = (len(wanted.clusters.key), len(wanted.heads))
        elsewhere = np.zeros((len(wanted.clusters.domains), shape[1]), dtype=np.int64)
        flags = (np.zeros(wanted.samples.height, dtype=np.bool_) for _ in range(2))
        return cls(wanted, np.zeros(shape), np.zeros(shape[0]), None, elsewhere, *flags)

    def add(self, block: Block) -> None:
        """Raises DataError for a sample that another part had."""
        again = block.samples[self.seen[block.samples]]
        if len(again):
            name = self.wanted.samples.get_column("sample_id")[int(again.min())]
            raise DataError(
                f"head_stats: sample {name!r}, head {self.wanted.heads[0]}, query {self.wanted.metric.QUERY!r}, has 2 "
                "rows, allowed 1. Run verify on the run: a file may be there twice."
            )
        self.seen[block.samples] = True
        rows = self.wanted.clusters.row_of_sample[block.samples]
        _add_rows(self.sums, rows, block.values)
        self.elsewhere += block.elsewhere
        if block.defined is None:
            self.defined[block.samples] = True
            self.whole += np.bincount(rows, minlength=len(self.whole))
        else:
            self.defined[block.samples] = block.defined.any(axis=1)
            self._count(rows, block.defined)

    def _count(self, rows: Int64[np.ndarray, " sample"], defined: Bool[np.ndarray, "sample head"]) -> None:
        whole = defined.all(axis=1)
        self.whole += np.bincount(rows[whole], minlength=len(self.whole))
        some = defined.any(axis=1) & ~whole
        if some.any():
            if self.partly is None:
                self.partly = np.zeros_like(self.sums)
            _add_rows(self.partly, rows[some], defined[some].astype(np.float64))

    def finished(self) -> HeadSums:
        """Raises IncompleteError for a sample without rows, DataError when nothing is defined."""
        wanted = self.wanted
        if not self.seen.all():
            name = wanted.samples.get_column("sample_id")[int(np.flatnonzero(~self.seen)[0])]
            raise IncompleteError(
                f"head_stats: sample {name!r} has no {wanted.metric.QUERY} row: {int(self.seen.sum())} of "
                f"{len(self.seen)} samples are there. Run verify, then capture."
            )
        if not self.defined.any():
            raise DataError(
                f"rank.metric = {wanted.metric.ID!r} is null for all {len(self.defined)} samples: "
                f"{wanted.metric.UNDEFINED}. Choose another metric, or capture again."
            )
        counts = self.whole[:, None]
        return HeadSums(
            metric=wanted.metric.ID,
            heads=wanted.heads,
            samples=wanted.samples.select("sample_id", "domain", "context_key").with_columns(
                pl.Series("defined", self.defined)
            ),
            clusters=wanted.clusters,
            sums=self.sums,
            counts=counts if self.partly is None else counts + self.partly,
            elsewhere=self.elsewhere,
        )


def _add_rows(
    total: Float64[np.ndarray, "row head"],
    rows: Int64[np.ndarray, " sample"],
    values: Float64[np.ndarray, "sample head"],
) -> None:
    """`total[rows] += values`, also where a row is named twice; `np.add.at` takes several times as long."""
    for row, value in zip(rows.tolist(), values, strict=True):
        total[row] += value
