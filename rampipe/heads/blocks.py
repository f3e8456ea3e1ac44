"""One file of `head_stats` as a matrix: a row per sample, a column per head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl
import pyarrow as pa
from jaxtyping import Bool, Float64, Int, Int64

from rampipe.errors import DataError, IncompleteError
from rampipe.heads.clusters import Clusters
from rampipe.heads.exact import rounded
from rampipe.heads.metrics.metric import Metric
from rampipe.types import HeadId

ELSEWHERE = ("mass_evidence_image_rest", "mass_other_visual")
ELSEWHERE_STEP = 2.0**-40
"""Grid of the masses elsewhere: the sum over one file is exact in float64, and over 8 million samples in int64."""


@runtime_checkable
class Part(Protocol):
    """Some rows of `head_stats`, such as one committed file."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns; text is dictionary-encoded."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read from every part. index: place in `samples` by id. step: grid of the values; limit: their bound."""

    metric: Metric
    heads: tuple[HeadId, ...]
    samples: pl.DataFrame
    index: Mapping[str, int]
    clusters: Clusters
    step: float
    limit: float


@dataclass(frozen=True, slots=True)
class Block:
    """samples: each once. values: on the grid, 0 where undefined. defined: None when all are. elsewhere: sums over
    defined values in ELSEWHERE_STEPs.
    """

    samples: Int64[np.ndarray, " sample"]
    values: Float64[np.ndarray, "sample head"]
    defined: Bool[np.ndarray, "sample head"] | None
    elsewhere: Int64[np.ndarray, "domain head"]


def heads_of(part: Part, metric: Metric) -> tuple[HeadId, ...]:
    """All heads that have a row of the metric's query group, sorted; empty when none has."""
    table = _of_query(part.read(["query", "layer", "head"]), metric)
    together = np.unique(_numbers(table, "layer").astype(np.int64) << 16 | _numbers(table, "head"))
    return tuple(HeadId(both >> 16, both & 0xFFFF) for both in together.tolist())


def read_block(part: Part, wanted: Wanted) -> Block:
    """Raises DataError for rows of unknown samples, duplicated keys, and values that are not finite; IncompleteError
    for a sample that lacks the row of a head.
    """
    columns = [name for name in wanted.metric.expression().meta.root_names() if name not in wanted.metric.COUNTS]
    keys = ["sample_id", "query", "layer", "head"]
    table = _of_query(part.read([*keys, *dict.fromkeys([*columns, *ELSEWHERE])]), wanted.metric)
    codes, known = _sample_codes(table, wanted)
    num_heads = len(wanted.heads)
    if not _is_regular(table, codes, wanted.heads):
        order = _sorted_rows(table, known[codes], wanted)
        table, codes = table.take(pa.array(order)), codes[order]
    samples = known[codes[::num_heads]]
    found, counts = np.unique(samples, return_counts=True)
    if len(found) < len(samples):
        raise _duplicated(wanted, int(found[counts > 1][0]), 0, int(counts.max()))
    frame = pl.DataFrame(table.drop_columns(keys))
    for name in wanted.metric.COUNTS:
        of_sample = wanted.samples.get_column(name).gather(samples.tolist()).to_numpy()
        frame = frame.with_columns(pl.Series(name, np.repeat(of_sample, num_heads)))
    return _block(samples, frame, wanted)


def _block(samples: Int64[np.ndarray, " sample"], frame: pl.DataFrame, wanted: Wanted) -> Block:
    shape = (len(samples), len(wanted.heads))
    column = frame.select(wanted.metric.expression().alias("value")).get_column("value")
    defined = None if column.null_count() == 0 else column.is_not_null().to_numpy().reshape(shape)
    values = column.fill_null(0.0).to_numpy().reshape(shape)
    _check_values(samples, values, wanted)
    rest, other = (frame.get_column(name).to_numpy() for name in ELSEWHERE)
    elsewhere = np.add(rest, other, dtype=np.float64).reshape(shape)
    if defined is not None:
        elsewhere[~defined] = 0.0
    clusters = wanted.clusters
    in_domain = clusters.domain[clusters.row_of_sample[samples]] == np.arange(len(clusters.domains))[:, None]
    by_domain = in_domain.astype(np.float64) @ rounded(elsewhere, ELSEWHERE_STEP) / ELSEWHERE_STEP
    return Block(samples, rounded(values, wanted.step), defined, by_domain.astype(np.int64))


def _check_values(
    samples: Int64[np.ndarray, " sample"], values: Float64[np.ndarray, "sample head"], wanted: Wanted
) -> None:
    if values.size == 0 or (values.max() <= wanted.limit and values.min() >= -wanted.limit):  # false for NaN
        return
    sample, head = (int(found[0]) for found in np.nonzero(~(np.abs(values) <= wanted.limit)))
    what = f"is outside of +-{wanted.limit:g}" if np.isfinite(values[sample, head]) else "is not finite"
    name = _name(wanted, int(samples[sample]), head)
    raise DataError(f"head_stats: {name}: value {values[sample, head]} {what}. Run verify on the run.")


def _of_query(table: pa.Table, metric: Metric) -> pa.Table:
    """Rows of the metric's query group, in one chunk."""
    table = table.unify_dictionaries().combine_chunks()
    names, codes = _encoded(table, "query")
    matching = codes == (names.index(metric.QUERY) if metric.QUERY in names else -1)
    return table if matching.all() else table.filter(pa.array(matching))


def _sample_codes(table: pa.Table, wanted: Wanted) -> tuple[Int[np.ndarray, " row"], Int64[np.ndarray, " code"]]:
    """Code of each row's sample in this part, and index of each code in `wanted.samples`."""
    names, codes = _encoded(table, "sample_id")
    known = np.array([wanted.index.get(name, -1) for name in names], dtype=np.int64)
    strangers = sorted(names[place] for place in np.flatnonzero(known < 0).tolist() if (codes == place).any())
    if strangers:
        raise DataError(
            f"head_stats: sample {strangers[0]!r} has rows but is not in the samples table. "
            "Run verify on the run: files of another run may have been mixed in."
        )
    return codes, known


def _encoded(table: pa.Table, name: str) -> tuple[list[str], Int[np.ndarray, " row"]]:
    """Values of a dictionary-encoded column, and the index of each row's."""
    chunks = table.column(name).chunks
    if not chunks:
        return [], np.zeros(0, dtype=np.int64)
    (chunk,) = chunks
    return chunk.dictionary.to_pylist(), chunk.indices.to_numpy(zero_copy_only=False)


def _numbers(table: pa.Table, name: str) -> Int[np.ndarray, " row"]:
    return table.column(name).to_numpy()


def _is_regular(table: pa.Table, codes: Int[np.ndarray, " row"], heads: Sequence[HeadId]) -> bool:
    """Whether the rows are as our writer leaves them: sample after sample, all heads of each in order."""
    if len(codes) % len(heads):
        return False
    by_sample = codes.reshape(-1, len(heads))
    layer, head = (_numbers(table, name).reshape(-1, len(heads)) for name in ("layer", "head"))
    return bool(
        (by_sample == by_sample[:, :1]).all()
        and (layer == np.array([found.layer for found in heads], dtype=layer.dtype)).all()
        and (head == np.array([found.head for found in heads], dtype=head.dtype)).all()
    )


def _sorted_rows(table: pa.Table, samples: Int[np.ndarray, " row"], wanted: Wanted) -> Int[np.ndarray, " row"]:
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
