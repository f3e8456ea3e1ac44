"""What an actor measures, and the Arrow tables it becomes. numpy and pyarrow only: both halves import this."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int16

from rampipe.errors import SampleError, Stage
from rampipe.tables.schema import load_schema
from rampipe.types import QUERY_GROUPS, REGIONS, QueryGroup

MASS_TOLERANCE = 1e-3
"""Largest distance from 1 of a head's masses over the regions: float32 sums over 100,000 keys stay below it."""

_NULL_WITHOUT_EVIDENCE = ("mass_evidence", "peak_evidence", "hit")


@dataclass(frozen=True, slots=True, eq=False)
class GroupStatistics:
    """All heads' statistics of one sample from one group of query rows, averaged over those rows.

    layers: the model's own indices, ascending. mass: regions in the order of REGIONS, summing to 1.
    mass_evidence_null: the same context with the question replaced by N/A; None when not calibrated. hit, entropy_nats:
    None when the backend does not touch every key. mass_evidence_top, hit_per_patch, copied: see the schema; None but
    on answer rows that are read for them.
    Without evidence, or without a learned sink, the columns that speak of it become null whatever the arrays hold.
    """

    layers: Int16[np.ndarray, " layer"]
    mass: Float32[np.ndarray, "layer head region"]
    peak_evidence: Float32[np.ndarray, "layer head"]
    hit: Float32[np.ndarray, "layer head"] | None
    entropy_nats: Float32[np.ndarray, "layer head"] | None
    mass_evidence_null: Float32[np.ndarray, "layer head"] | None
    has_evidence: bool
    has_learned_sink: bool
    mass_evidence_top: Float32[np.ndarray, "layer head"] | None = None
    hit_per_patch: Float32[np.ndarray, "layer head"] | None = None
    copied: Float32[np.ndarray, "layer head"] | None = None

    @property
    def num_heads(self) -> int:
        """(layer, head) pairs: rows of the table that one group gives."""
        return self.mass.shape[0] * self.mass.shape[1]

    def check(self, *, source: str) -> None:
        """Raise SampleError when a value is not finite or the masses of a head do not sum to 1."""
        checked = [self.mass, self.entropy_nats]
        if self.has_evidence:
            checked += [self.peak_evidence, self.hit, self.mass_evidence_null]
            checked += [self.mass_evidence_top, self.hit_per_patch, self.copied]
        if not all(values is None or np.isfinite(values).all() for values in checked):
            raise SampleError(
                f"{source}: attention statistics hold NaN or infinity. Run the model in float32 or bfloat16.",
                stage="statistics",
                code="nonfinite",
            )
        off = float(np.abs(self.mass.sum(axis=-1, dtype=np.float64) - 1).max(initial=0.0))
        if off > MASS_TOLERANCE:
            raise SampleError(
                f"{source}: the masses of a head sum to 1 only within {off:.2e}, allowed {MASS_TOLERANCE:.0e}.",
                stage="statistics",
                code="mass_sum",
            )


@dataclass(frozen=True, slots=True, eq=False)
class SampleResult:
    """One measured sample. `region_counts`: tokens of the prompt by region; a region that is absent has 0.

    num_answer: tokens of the reference answer, one for each of its rows; 0 when they are not read.
    """

    sample_id: str
    domain: str
    context_key: str
    num_tokens: int
    region_counts: Mapping[str, int]
    groups: Mapping[QueryGroup, GroupStatistics]
    num_answer: int = 0
    prediction: str | None = None
    correct: bool | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleFailure:
    """One sample that could not be measured: a row of `errors/`."""

    sample_id: str
    shard: str
    row: int
    stage: Stage
    code: str
    message: str


def head_stats_table(results: Sequence[SampleResult]) -> pa.Table:
    """One row per (sample, query, layer, head): samples in the given order, queries in the order of QUERY_GROUPS.

    Raises SampleError naming the sample when its statistics are not finite or do not sum to 1.
    """
    blocks = [
        (index, query, result.groups[query])
        for index, result in enumerate(results)
        for query in QUERY_GROUPS
        if query in result.groups
    ]
    for index, query, group in blocks:
        group.check(source=f"sample {results[index].sample_id}, query {query}")
    schema = load_schema("head_stats.v2").arrow_schema
    if not blocks:
        return schema.empty_table()
    groups = [group for _, _, group in blocks]
    lengths = np.array([group.num_heads for group in groups])
    sample_of_row = pa.array(np.repeat([index for index, _, _ in blocks], lengths))
    query_of_row = pa.array(np.repeat([QUERY_GROUPS.index(query) for _, query, _ in blocks], lengths))
    columns: dict[str, pa.Array] = {
        "sample_id": pa.array([result.sample_id for result in results], pa.string()).take(sample_of_row),
        "domain": pa.array([result.domain for result in results], pa.string()).take(sample_of_row),
        "query": pa.array(list(QUERY_GROUPS), pa.string()).take(query_of_row),
        "layer": pa.array(np.concatenate([np.repeat(group.layers, group.mass.shape[1]) for group in groups])),
        "head": pa.array(
            np.concatenate(
                [np.tile(np.arange(group.mass.shape[1], dtype=np.int16), len(group.layers)) for group in groups]
            )
        ),
    }
    columns |= _statistics(groups, lengths)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _statistics(groups: Sequence[GroupStatistics], lengths: np.ndarray) -> dict[str, pa.Array]:
    """The float columns: flat over layer and head, null where the statistic does not exist."""
    no_evidence = np.repeat([not group.has_evidence for group in groups], lengths)
    no_sink = np.repeat([not group.has_learned_sink for group in groups], lengths)

    def column(values: Callable[[GroupStatistics], np.ndarray | None], null: np.ndarray | None = None) -> pa.Array:
        arrays = [values(group) for group in groups]
        if all(array is None for array in arrays):
            return pa.nulls(int(lengths.sum()), pa.float32())
        absent = np.repeat([array is None for array in arrays], lengths)
        parts = [
            np.zeros(length, np.float32) if array is None else array.reshape(-1)
            for array, length in zip(arrays, lengths, strict=True)
        ]
        flat = np.concatenate(parts).astype(np.float32, copy=False)
        return pa.array(flat, pa.float32(), mask=absent if null is None else absent | null, from_pandas=False)

    columns = {
        f"mass_{region}": column(
            lambda group, place=place: group.mass[:, :, place],
            {"evidence": no_evidence, "learned_sink": no_sink}.get(region),
        )
        for place, region in enumerate(REGIONS)
    }
    columns["mass_evidence_null"] = column(lambda group: group.mass_evidence_null, no_evidence)
    columns["peak_evidence"] = column(lambda group: group.peak_evidence, no_evidence)
    columns["hit"] = column(lambda group: group.hit, no_evidence)
    columns["entropy_nats"] = column(lambda group: group.entropy_nats)
    columns["mass_evidence_top"] = column(lambda group: group.mass_evidence_top, no_evidence)
    columns["hit_per_patch"] = column(lambda group: group.hit_per_patch, no_evidence)
    columns["copied"] = column(lambda group: group.copied, no_evidence)
    return columns


def samples_table(results: Sequence[SampleResult]) -> pa.Table:
    """One row per measured sample, in the given order."""
    schema = load_schema("samples.v2").arrow_schema
    columns: dict[str, list[object]] = {
        name: [getattr(result, name) for result in results]
        for name in ("sample_id", "domain", "context_key", "num_tokens", "num_answer", "prediction", "correct")
    }
    columns["flags"] = [list(result.flags) for result in results]
    for name in schema.names:
        if name not in columns:
            region = name.removeprefix("num_")
            columns[name] = [result.region_counts.get(region, 0) for result in results]
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def errors_table(failures: Sequence[SampleFailure]) -> pa.Table:
    """One row per failed sample, by row of the shard; messages are cut to 500 characters."""
    schema = load_schema("errors.v1").arrow_schema
    ordered = sorted(failures, key=lambda failure: (failure.shard, failure.row))
    columns: dict[str, list[object]] = {
        name: [getattr(failure, name) for failure in ordered] for name in ("sample_id", "shard", "row", "stage", "code")
    }
    columns["message"] = [failure.message[:500] for failure in ordered]
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
