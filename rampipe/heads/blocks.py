"""One file of `head_stats` as a matrix: a row per sample, a column per head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Bool, Float, Int, Int64, Shaped

from rampipe.errors import DataError, IncompleteError
from rampipe.heads.clusters import Clusters
from rampipe.heads.exact import rounded
from rampipe.heads.layout import KEYS, Layouts, Part, Rows, encoded
from rampipe.heads.metrics.metric import Metric
from rampipe.types import HeadId

ELSEWHERE = ("mass_evidence_image_rest", "mass_other_visual")
ELSEWHERE_STEP = 2.0**-40
"""Grid of the masses elsewhere: the sum over one file is exact in float64, and over 8 million samples in int64."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read from every part. index: place in `samples` by id. step: grid of the values; limit: their bound.

    columns: what is read. column: the one that the metric is as it stands; None for one that is computed. elsewhere:
    whether the masses on visual tokens outside the evidence are summed too, which only the class of a head needs.
    """

    metric: Metric
    columns: tuple[str, ...]
    column: str | None
    elsewhere: bool
    heads: tuple[HeadId, ...]
    samples: pl.DataFrame
    index: Mapping[str, int]
    clusters: Clusters
    layouts: Layouts
    step: float
    limit: float


@dataclass(frozen=True, slots=True)
class Block:
    """samples: each once. values: on the grid, 0 where undefined. defined: None when all are. elsewhere: sums over
    defined values in ELSEWHERE_STEPs, None when not wanted.
    """

    samples: Int64[np.ndarray, " sample"]
    values: Float[np.ndarray, "sample head"]
    defined: Bool[np.ndarray, "sample head"] | None
    elsewhere: Int64[np.ndarray, "domain head"] | None


def heads_of(part: Part, metric: Metric) -> tuple[HeadId, ...]:
    """All heads that have a row of the metric's query group, sorted; empty when none has."""
    with part.open() as rows:
        table = _of_query(rows.read(KEYS), metric)
    together = np.unique(_numbers(table, "layer").astype(np.int64) << 16 | _numbers(table, "head"))
    return tuple(HeadId(both >> 16, both & 0xFFFF) for both in together.tolist())


def query_groups(part: Part) -> set[str]:
    """Names of the query groups that have rows."""
    with part.open() as rows:
        return set(rows.read(["query"]).column("query").unique().to_pylist())


def read_block(part: Part, wanted: Wanted) -> Block:
    """Raises DataError for rows of unknown samples, duplicated keys, and values that are not finite; IncompleteError
    for a sample that lacks the row of a head.
    """
    with part.open() as rows:
        found = _regular_rows(rows, wanted)
        samples, table = _sorted_rows(rows, wanted) if found is None else found
    if len(set(samples.tolist())) < len(samples):
        present, counts = np.unique(samples, return_counts=True)
        raise _duplicated(wanted, int(present[counts > 1][0]), 0, int(counts.max()))
    return _block(samples, table, wanted)


def _regular_rows(rows: Rows, wanted: Wanted) -> tuple[Int64[np.ndarray, " sample"], pa.Table] | None:
    """The samples of the query's rows, and the rows; None when they are not as our writer leaves them."""
    of_query = wanted.layouts.find(rows)
    if of_query is None:
        return None
    num_heads = len(wanted.heads)
    table = _one_chunk(rows.read(wanted.columns))
    if not of_query.all():
        table = table.filter(pa.array(np.repeat(of_query, num_heads)))
    codes, known = _sample_codes(table, wanted)
    by_sample = codes.reshape(-1, num_heads)
    return (known[by_sample[:, 0]], table) if (by_sample == by_sample[:, :1]).all() else None


def _sorted_rows(rows: Rows, wanted: Wanted) -> tuple[Int64[np.ndarray, " sample"], pa.Table]:
    """The same of rows in any order. Raises DataError or IncompleteError when they are not each head's once."""
    table = _of_query(rows.read([*KEYS, *wanted.columns]), wanted.metric)
    codes, known = _sample_codes(table, wanted)
    order = _order(table, known[codes], wanted)
    return known[codes[order[:: len(wanted.heads)]]], table.drop_columns(list(KEYS)).take(pa.array(order))


def _block(samples: Int64[np.ndarray, " sample"], table: pa.Table, wanted: Wanted) -> Block:
    shape = (len(samples), len(wanted.heads))
    column = _value(samples, table, wanted)
    defined = None
    if column.null_count:
        defined = column.is_valid().to_numpy(zero_copy_only=False).reshape(shape)
        column = column.fill_null(0.0)
    values = column.to_numpy().reshape(shape)
    _check_values(samples, values, wanted)
    elsewhere = _elsewhere(samples, table, defined, wanted) if wanted.elsewhere else None
    return Block(samples, rounded(values, wanted.step), defined, elsewhere)


def _value(samples: Int64[np.ndarray, " sample"], table: pa.Table, wanted: Wanted) -> pa.Array:
    """The metric of each row. One that is a column as it stands is not copied to float64: later sums are."""
    if wanted.column is not None:
        return table.column(wanted.column).combine_chunks()
    frame = pl.DataFrame(table.drop_columns("sample_id"))
    for name in wanted.metric.COUNTS:
        of_sample = wanted.samples.get_column(name).gather(samples.tolist()).to_numpy()
        frame = frame.with_columns(pl.Series(name, np.repeat(of_sample, len(wanted.heads))))
    return frame.select(wanted.metric.expression().alias("value")).get_column("value").to_arrow()


def _elsewhere(
    samples: Int64[np.ndarray, " sample"],
    table: pa.Table,
    defined: Bool[np.ndarray, "sample head"] | None,
    wanted: Wanted,
) -> Int64[np.ndarray, "domain head"]:
    """Sums by domain. Raises DataError for masses that are not finite."""
    rest, other = (_numbers(table, name) for name in ELSEWHERE)
    values = rounded(rest + other, ELSEWHERE_STEP).reshape(len(samples), -1)
    if defined is not None:
        values[~defined] = 0.0
    places, domain = np.unique(wanted.clusters.domain[wanted.clusters.row_of_sample[samples]], return_inverse=True)
    sums = (np.arange(len(places))[:, None] == domain).astype(np.float64) @ values
    if not np.isfinite(sums).all():
        sample, head = (int(found[0]) for found in np.nonzero(~np.isfinite(values)))
        name = _name(wanted, int(samples[sample]), head)
        raise DataError(f"head_stats: {name}: {' or '.join(ELSEWHERE)} is not finite. Run verify on the run.")
    found = np.zeros((len(wanted.clusters.domains), len(wanted.heads)), dtype=np.int64)
    found[places] = sums / ELSEWHERE_STEP
    return found


def _check_values(
    samples: Int64[np.ndarray, " sample"], values: Float[np.ndarray, "sample head"], wanted: Wanted
) -> None:
    if values.size == 0 or (values.max() <= wanted.limit and values.min() >= -wanted.limit):  # false for NaN
        return
    sample, head = (int(found[0]) for found in np.nonzero(~(np.abs(values) <= wanted.limit)))
    what = f"is outside of +-{wanted.limit:g}" if np.isfinite(values[sample, head]) else "is not finite"
    name = _name(wanted, int(samples[sample]), head)
    raise DataError(f"head_stats: {name}: value {values[sample, head]} {what}. Run verify on the run.")


def _one_chunk(table: pa.Table) -> pa.Table:
    """The same rows; a file of one row group is left as it is."""
    return table if table.column(0).num_chunks == 1 else table.unify_dictionaries().combine_chunks()


def _of_query(table: pa.Table, metric: Metric) -> pa.Table:
    """Rows of the metric's query group, in one chunk."""
    table = _one_chunk(table)
    names, codes = encoded(table, "query")
    matching = codes == (names.index(metric.QUERY) if metric.QUERY in names else -1)
    return table if matching.all() else table.filter(pa.array(matching))


def _sample_codes(table: pa.Table, wanted: Wanted) -> tuple[Int[np.ndarray, " row"], Int64[np.ndarray, " code"]]:
    """Code of each row's sample in this part, and index of each code in `wanted.samples`."""
    names, codes = encoded(table, "sample_id")
    known = np.array([wanted.index.get(name, -1) for name in names], dtype=np.int64)
    strangers = sorted(names[place] for place in np.flatnonzero(known < 0).tolist() if (codes == place).any())
    if strangers:
        raise DataError(
            f"head_stats: sample {strangers[0]!r} has rows but is not in the samples table. "
            "Run verify on the run: files of another run may have been mixed in."
        )
    return codes, known


def _numbers(table: pa.Table, name: str) -> Shaped[np.ndarray, " row"]:
    """Not copied, as Arrow's own `to_numpy` of a column would."""
    return pl.Series(table.column(name)).to_numpy()


def _order(table: pa.Table, samples: Int[np.ndarray, " row"], wanted: Wanted) -> Int[np.ndarray, " row"]:
    """The order that makes rows regular. Raises DataError or IncompleteError when none does."""
    place = {head: index for index, head in enumerate(wanted.heads)}
    pairs = zip(_numbers(table, "layer").tolist(), _numbers(table, "head").tolist(), strict=True)
    column = np.array([place.get(HeadId(*pair), -1) for pair in pairs], dtype=np.int64)
    cells = samples * len(wanted.heads) + column
    order = np.argsort(cells, kind="stable")
    found, counts = np.unique(cells, return_counts=True)
    if counts.max(initial=1) > 1:
        sample, head = divmod(int(found[counts > 1][0]), len(wanted.heads))
        raise _duplicated(wanted, sample, head, int(counts[counts > 1][0]))
    strange = np.flatnonzero(column < 0)
    present = np.unique(samples)
    expected = (present[:, None] * len(wanted.heads) + np.arange(len(wanted.heads))).reshape(-1)
    if len(strange) or len(found) < len(expected):
        absent = np.setdiff1d(expected, found)
        sample, head = divmod(int(absent[0]), len(wanted.heads)) if len(absent) else (int(samples[strange[0]]), 0)
        raise IncompleteError(
            f"head_stats: {_name(wanted, sample, head)} has no {wanted.metric.QUERY} row: {len(found)} of "
            f"{len(expected)} rows ({len(present)} samples x {len(wanted.heads)} heads) are there. Run verify, then "
            "capture."
        )
    return order


def _duplicated(wanted: Wanted, sample: int, head: int, count: int) -> DataError:
    return DataError(
        f"head_stats: {_name(wanted, sample, head)}, query {wanted.metric.QUERY!r}, has {count} rows, allowed 1. "
        "Run verify on the run: a file may be there twice."
    )


def _name(wanted: Wanted, sample: int, head: int) -> str:
    return f"sample {wanted.samples.get_column('sample_id')[sample]!r}, head {wanted.heads[head]}"
