"""A small run of timings without a model."""

from __future__ import annotations

from collections.abc import Sequence

from rampipe.tables.commit import CommitRecord, commit_unit
from rampipe.tables.rows import SampleFailure
from rampipe.tables.run import Run, RunSpec
from rampipe.tables.timings import ArmTimings, Repetition, timing_id
from rampipe.tables.unit_kind import TIMINGS
from rampipe.types import Unit
from tests.unit.tables.synthetic import PROVENANCE

ARMS, LENGTHS, NUM_REPEATS = ("top-5", "random-5-seed0"), (128, 64), 3


def timings_spec() -> RunSpec:
    return RunSpec(
        model_slug="tiny",
        dataset_slug="speed",
        inputs={"model": {"weights": "0" * 64}},
        units=tuple(Unit(index, arm_id, 0, len(LENGTHS)) for index, arm_id in enumerate(ARMS)),
        queries=(),
        num_heads=0,
        num_repeats=NUM_REPEATS,
    )


def timed(arm_id: str, context_tokens: int, *, num_repeats: int = NUM_REPEATS, seconds: float = 1.0) -> ArmTimings:
    repetitions = tuple(
        Repetition(
            dense_first=repeat % 2 == 0,
            prefill_s=seconds + repeat,
            dense_prefill_s=2.0,
            decode_s=0.5,
            dense_decode_s=1.0,
            peak_bytes=None if repeat == 1 else 800,
            dense_peak_bytes=1000,
            cache_bytes=250,
            dense_cache_bytes=1000,
        )
        for repeat in range(num_repeats)
    )
    return ArmTimings(arm_id, context_tokens, num_new_tokens=4, predicted_cache_bytes=250, repetitions=repetitions)


def commit_timings(run: Run, unit: Unit, *, failed: Sequence[int] = (), seconds: float = 1.0) -> CommitRecord:
    """failed: rows, i.e. positions of LENGTHS, that become error rows."""
    rows = range(unit.row_start, unit.row_stop)
    return commit_unit(
        run.storage,
        fingerprint=run.fingerprint,
        unit=unit,
        kind=TIMINGS,
        results=[timed(unit.shard, LENGTHS[row], seconds=seconds) for row in rows if row not in failed],
        failures=[
            SampleFailure(timing_id(unit.shard, LENGTHS[row]), unit.shard, row, "forward", "out_of_memory", "full")
            for row in failed
        ],
        provenance=PROVENANCE,
    )
