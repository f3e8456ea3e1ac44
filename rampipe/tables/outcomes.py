"""What an actor answers under ablation, and the Arrow table it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from rampipe.tables.schema import load_schema


@dataclass(frozen=True, slots=True)
class ArmOutcome:
    """One sample in one arm, see schemas/outcomes.v1.json. `answer_log_prob`: nats per token."""

    arm_id: str
    prediction: str | None
    correct: bool | None
    score: float | None
    answer_log_prob: float | None


@dataclass(frozen=True, slots=True)
class SampleOutcomes:
    """One sample in all arms, in the order of the plan."""

    sample_id: str
    domain: str
    context_key: str
    control: bool
    arms: tuple[ArmOutcome, ...]


def outcomes_table(results: Sequence[SampleOutcomes]) -> pa.Table:
    """One row per (sample, arm): samples in the given order, arms in theirs."""
    schema = load_schema("outcomes.v1").arrow_schema
    rows = [
        {
            "sample_id": result.sample_id,
            "domain": result.domain,
            "context_key": result.context_key,
            "control": result.control,
            **{name: getattr(arm, name) for name in ArmOutcome.__slots__},
        }
        for result in results
        for arm in result.arms
    ]
    return pa.Table.from_pylist(rows, schema=schema)
