"""How long an arm took beside dense attention, and the Arrow table it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from rampipe.tables.arms import Arm, ArmPlan
from rampipe.tables.schema import load_schema


@dataclass(frozen=True, slots=True)
class Repetition:
    """The arm and dense attention once each, right after one another, see schemas/timings.v1.json."""

    dense_first: bool
    prefill_s: float
    dense_prefill_s: float
    decode_s: float
    dense_decode_s: float
    peak_bytes: int | None
    dense_peak_bytes: int | None
    cache_bytes: int
    dense_cache_bytes: int


@dataclass(frozen=True, slots=True)
class ArmTimings:
    """One arm at one context length, its repetitions in the order in which they ran."""

    arm_id: str
    context_tokens: int
    num_new_tokens: int
    predicted_cache_bytes: int
    repetitions: tuple[Repetition, ...]

    @property
    def sample_id(self) -> str:
        """What stands for a sample in a run of timings, in its error rows too."""
        return timing_id(self.arm_id, self.context_tokens)


def timing_id(arm_id: str, context_tokens: int) -> str:
    """`<arm_id>@<context_tokens>`."""
    return f"{arm_id}@{context_tokens}"


def timings_table(results: Sequence[ArmTimings]) -> pa.Table:
    """One row per repetition: results in the given order, repetitions in theirs."""
    schema = load_schema("timings.v1").arrow_schema
    rows = [
        {
            "arm_id": result.arm_id,
            "context_tokens": result.context_tokens,
            "repeat": repeat,
            "num_new_tokens": result.num_new_tokens,
            "predicted_cache_bytes": result.predicted_cache_bytes,
            **asdict(repetition),
        }
        for result in results
        for repeat, repetition in enumerate(result.repetitions)
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def timed_arms(plan: ArmPlan, *, timed_seeds: int) -> tuple[Arm, ...]:
    """What is timed of a plan: not the base, which is measured beside every arm, and only the first random draws."""
    return tuple(arm for arm in plan.arms if not arm.is_base and (arm.seed is None or arm.seed < timed_seeds))
