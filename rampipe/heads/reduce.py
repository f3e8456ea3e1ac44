"""From rows of `head_stats` to sums per cluster and head, in one streaming pass over the files.

Each file becomes a matrix, is rounded to a grid on which sums are exact, and added: so the order of rows, files and
threads cannot matter, and memory does not grow with rows. A row that is there twice or never is an error, and null
stays apart from both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import polars as pl

from rampipe.errors import ConfigError, DataError, RampipeError
from rampipe.heads.blocks import ELSEWHERE, Wanted, heads_of, query_groups, read_block
from rampipe.heads.clusters import cluster_samples
from rampipe.heads.exact import exact_step
from rampipe.heads.layout import Layouts, Part
from rampipe.heads.metrics.metric import Metric
from rampipe.heads.sums import HeadSums, PartialSums

NUM_THREADS = min(os.cpu_count() or 1, 8)
"""Files that are decoded at once; Arrow and numpy release the interpreter for most of it. One more than cores waits for
the interpreter more often than it fills a gap: a tenth more of wall and processor time.
"""

SumParts = Callable[[Sequence[Part], Wanted], PartialSums]
"""`sum_parts`, or what gives the same bytes with more processes."""


def reduce_metric(parts: Sequence[Part], samples: pl.LazyFrame, metric: Metric, *, elsewhere: bool = True) -> HeadSums:
    """Read the metric of every (sample, head); every sample's rows lie in one part.

    parts: `schemas/head_stats.v1.json`, samples: `schemas/samples.v1.json`, of one run. elsewhere: read the masses
    that the class of a head needs too, which takes as long again as a metric that is one column.
    Raises ConfigError when the metric's query group was not captured, DataError for duplicated keys, rows of unknown
    samples, values that are not finite, and a metric that is null everywhere, IncompleteError for absent rows.
    """
    return sum_parts(parts, find_wanted(parts, samples, metric, elsewhere=elsewhere)).finished()


def sum_parts(parts: Sequence[Part], wanted: Wanted, *, num_threads: int = NUM_THREADS) -> PartialSums:
    """The sums of these parts; those of others are put beside them by `merge`.

    Raises what `reduce_metric` raises: of several such parts what the first has, which ends the reading.
    """
    sums, adding = PartialSums.zero(wanted), Lock()
    rest, failed = iter(enumerate(parts)), dict[int, RampipeError]()

    def add_rest(_: int) -> None:
        # The parts are shared: a thread takes the next one itself, so nobody is woken to hand it out. Whoever has taken
        # one reads it, so no earlier part than those that failed is left out.
        while not failed and (taken := next(rest, None)) is not None:
            place, part = taken
            try:
                block = read_block(part, wanted)
                with adding:  # by the thread that has the values in its cache
                    sums.add(block)
            except RampipeError as error:
                failed[place] = error

    with ThreadPoolExecutor(num_threads) as readers:
        list(readers.map(add_rest, range(num_threads)))
    if failed:
        raise failed[min(failed)]
    return sums


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


def find_wanted(parts: Sequence[Part], samples: pl.LazyFrame, metric: Metric, *, elsewhere: bool = True) -> Wanted:
    """What to read from every part of a run, of which these are all: whoever sums some of them needs the same.

    Heads are those of the first part that has the query group. Raises what `reduce_metric` raises.
    """
    known = _ordered_samples(samples, metric)
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
        columns=_columns_of(metric, elsewhere=elsewhere),
        column=_column_of(metric),
        elsewhere=elsewhere,
        heads=heads,
        samples=known,
        index=dict(zip(ids, range(len(ids)), strict=True)),
        clusters=cluster_samples(known, num_heads=len(heads)),
        layouts=Layouts(metric.QUERY, heads),
        step=exact_step(bound, len(ids)),
        limit=2.0 * bound,
    )


def _columns_of(metric: Metric, *, elsewhere: bool) -> tuple[str, ...]:
    """Those of `head_stats` that are read, each once."""
    names = [name for name in metric.expression().meta.root_names() if name not in metric.COUNTS]
    return tuple(dict.fromkeys(["sample_id", *names, *(ELSEWHERE if elsewhere else ())]))


def _column_of(metric: Metric) -> str | None:
    """The column that a metric is, but for its type; None for one that is computed."""
    names = metric.expression().meta.root_names()
    return names[0] if metric.expression().meta.eq(pl.col(names[0]).cast(pl.Float64)) else None
