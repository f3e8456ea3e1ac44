"""Runs whose answer is known: evidence masses are given, everything else follows from them."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from rampipe.tables.commit import Provenance, commit_unit
from rampipe.tables.finish import finish_run
from rampipe.tables.rows import GroupStatistics, SampleFailure, SampleResult, head_stats_table, samples_table
from rampipe.tables.run import Run, RunSpec, create_run
from rampipe.types import REGIONS, HeadId, QueryGroup, Unit

COUNTS = {
    "evidence": 20, "evidence_image_rest": 80, "other_visual": 300, "question": 10, "sink": 4, "other_text": 86,
}  # fmt: skip
PROVENANCE = Provenance(attempt=1, node="here", device="cpu", versions={}, seconds=1.0)


@dataclass(frozen=True)
class TablePart:
    """Rows of `head_stats` that lie in no file."""

    table: pa.Table
    name: str = "rows"

    @contextmanager
    def open(self) -> Generator[TablePart]:
        yield self

    def stored(self, columns: Sequence[str]) -> bytes:
        return repr(self.table.select(columns).to_pydict()).encode()

    def read(self, columns: Sequence[str]) -> pa.Table:
        chosen = self.table.select(columns)
        for place, column in enumerate(chosen.schema):
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                texts = chosen.column(place).cast(pa.string()).dictionary_encode()
                chosen = chosen.set_column(place, column.name, texts)
        return chosen


def part_of(rows: pl.LazyFrame | pl.DataFrame) -> TablePart:
    return TablePart(rows.lazy().collect().to_arrow())


@dataclass(frozen=True)
class Study:
    """What `results` makes samples of. evidence, elsewhere: [sample, layer, head]."""

    evidence: np.ndarray
    elsewhere: np.ndarray | None = None
    null: np.ndarray | None = None
    domains: Sequence[str] = ("docs",)
    per_context: int = 1
    queries: Sequence[QueryGroup] = ("question",)
    without_evidence: frozenset[int] = frozenset()
    correct: Mapping[int, bool] | None = None

    def results(self) -> list[SampleResult]:
        return [self._result(index) for index in range(len(self.evidence))]

    def frames(self) -> tuple[pl.LazyFrame, pl.LazyFrame]:
        made = self.results()
        return pl.DataFrame(head_stats_table(made)).lazy(), pl.DataFrame(samples_table(made)).lazy()

    def parts(self, *, part_samples: int = 7) -> tuple[list[TablePart], pl.LazyFrame]:
        made = self.results()
        starts = range(0, len(made), part_samples)
        parts = [TablePart(head_stats_table(made[start : start + part_samples])) for start in starts]
        return parts, pl.DataFrame(samples_table(made)).lazy()

    def _result(self, index: int) -> SampleResult:
        has_evidence = index not in self.without_evidence
        correct = None if self.correct is None else self.correct.get(index)
        return SampleResult(
            sample_id=f"docs/{index:05d}",
            domain=self.domains[index % len(self.domains)],
            context_key=f"{index // self.per_context:016x}",
            num_tokens=sum(COUNTS.values()),
            region_counts=COUNTS if has_evidence else {**COUNTS, "evidence": 0, "other_text": 106},
            groups={query: self._group(index, has_evidence=has_evidence) for query in self.queries},
            prediction=None if correct is None else "42",
            correct=correct,
        )

    def _group(self, index: int, *, has_evidence: bool) -> GroupStatistics:
        evidence = self.evidence[index].astype(np.float32)
        elsewhere = np.zeros_like(evidence) if self.elsewhere is None else self.elsewhere[index].astype(np.float32)
        mass = np.zeros((*evidence.shape, len(REGIONS)), dtype=np.float32)
        mass[..., REGIONS.index("evidence")] = evidence if has_evidence else 0.0
        mass[..., REGIONS.index("other_visual")] = elsewhere
        mass[..., REGIONS.index("other_text")] = 1.0 - mass.sum(axis=-1)
        return GroupStatistics(
            layers=np.arange(evidence.shape[0], dtype=np.int16),
            mass=mass,
            peak_evidence=evidence * 0.5,
            hit=(evidence > 0.5).astype(np.float32),
            entropy_nats=np.ones_like(evidence),
            mass_evidence_null=None if self.null is None else self.null[index].astype(np.float32),
            has_evidence=has_evidence,
            has_learned_sink=False,
        )


def planted_masses(num_samples: int, heads: Mapping[HeadId, float], *, seed: int = 0, shape: tuple[int, int] = (5, 8)):
    """Noise around 0.02 for all heads, around the given mean for the planted ones; [sample, layer, head]."""
    rng = np.random.default_rng(seed)
    masses = rng.gamma(2.0, 0.01, size=(num_samples, *shape))
    for head, mean in heads.items():
        masses[:, head.layer, head.head] = rng.gamma(8.0, mean / 8.0, size=num_samples)
    return np.clip(masses, 0.0, 0.9)


def shuffled_heads(masses: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """The same masses, but each sample's are dealt to heads at random: no head means anything any more."""
    rng = np.random.default_rng(seed)
    flat = masses.reshape(len(masses), -1)
    return rng.permuted(flat, axis=1).reshape(masses.shape)


@dataclass(frozen=True)
class RunShape:
    """How a run is cut: `unit_order` is the order of committing, `uncommitted` units are left open."""

    unit_samples: int = 8
    unit_order: int = 1
    uncommitted: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()
    model: str = "model"
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])


def write_run(out: Path, study: Study, shape: RunShape | None = None) -> Run:
    """Commit a study as a real run, and finish it when nothing was left open."""
    shape = shape or RunShape()
    results = study.results()
    starts = range(0, len(results), shape.unit_samples)
    units = tuple(
        Unit(number, "shard.parquet", start, min(start + shape.unit_samples, len(results)))
        for number, start in enumerate(starts)
    )
    num_heads = int(np.prod(study.evidence.shape[1:]))
    inputs = {"unit_samples": shape.unit_samples, **shape.inputs}
    spec = RunSpec(shape.model, "planted", inputs, units, tuple(study.queries), num_heads)
    run = create_run(str(out), spec)
    for unit in units[:: shape.unit_order]:
        if unit.unit_id in shape.uncommitted:
            continue
        rows = range(unit.row_start, unit.row_stop)
        commit_unit(
            run.storage,
            fingerprint=run.fingerprint,
            unit=unit,
            results=[results[row] for row in rows if row not in shape.failed],
            failures=[
                SampleFailure(results[row].sample_id, "shard.parquet", row, "decode", "image_corrupt", "broken")
                for row in rows
                if row in shape.failed
            ],
            provenance=PROVENANCE,
        )
    if not shape.uncommitted:
        finish_run(run)
    return run
