"""Timings whose ratios are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from rampipe.heads.ranking import to_table
from rampipe.tables.arms import Arm, ArmPlan

LENGTHS = (8192, 16384)


def made_timings(plan: ArmPlan, *, lengths: Sequence[int] = LENGTHS, **columns: Sequence[Any]) -> pl.DataFrame:
    """Every arm but the base at every length. columns: values of the repetitions, in place of the usual three."""
    num_repeats = len(next(iter(columns.values()), (0, 1, 2)))
    repeats = [{name: column[repeat] for name, column in columns.items()} for repeat in range(num_repeats)]
    rows = [
        timing(arm, context_tokens=tokens, repeat=repeat, values=values)
        for arm in plan.arms
        if not arm.is_base
        for tokens in lengths
        for repeat, values in enumerate(repeats)
    ]
    return pl.DataFrame(to_table(rows, "timings.v1"))


def timing(arm: Arm, *, context_tokens: int, repeat: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Twice as fast as dense, with a quarter of its cache."""
    return {
        "arm_id": arm.arm_id, "context_tokens": context_tokens, "repeat": repeat, "dense_first": repeat % 2 == 0,
        "prefill_s": 1.0, "dense_prefill_s": 2.0, "num_new_tokens": 32, "decode_s": 4.0, "dense_decode_s": 8.0,
        "peak_bytes": 800, "dense_peak_bytes": 1000, "cache_bytes": 250, "dense_cache_bytes": 1000,
        "predicted_cache_bytes": 250, **values,
    }  # fmt: skip


def wanted_of(plan: ArmPlan, *, lengths: Sequence[int] = LENGTHS) -> set[tuple[str, int]]:
    return {(arm.arm_id, tokens) for arm in plan.arms if not arm.is_base for tokens in lengths}


def devices_of(plan: ArmPlan, name: str = "cpu") -> dict[str, str]:
    return {arm.arm_id: name for arm in plan.arms}
