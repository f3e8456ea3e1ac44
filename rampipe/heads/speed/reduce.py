"""Timings to ratios: every repetition is divided by the dense one beside it, and only then is the median taken."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from rampipe.errors import DataError, IncompleteError
from rampipe.heads.ranking import to_frame, to_table
from rampipe.heads.scopes import OVERALL
from rampipe.tables.arms import Arm, ArmPlan

Row = dict[str, Any]
Timed = tuple[str, int]
"""An arm and the tokens of the timed prompt."""

_KEY = ("arm_id", "context_tokens")
_POSITIVE = (
    *("prefill_s", "dense_prefill_s", "num_new_tokens", "decode_s", "dense_decode_s"),
    *("cache_bytes", "dense_cache_bytes", "predicted_cache_bytes", "peak_bytes", "dense_peak_bytes"),
)
_SAME = ("cache_bytes", "dense_cache_bytes", "predicted_cache_bytes")
"""Decided by the shapes: no two repetitions can differ."""


def speed_table(
    timings: pl.LazyFrame,
    plan: ArmPlan,
    *,
    wanted: Collection[Timed],
    devices: Mapping[str, str],
    accuracy: pl.DataFrame,
    allow_partial: bool = False,
) -> pl.DataFrame:
    """Table of schema speed.v1, a row per timed arm and length: arms in the order of the plan, lengths ascending.

    timings: of schema timings.v1. wanted: what should have been timed and did not fail. devices: name by arm.
    accuracy: of the judge; an arm that it does not have keeps null.
    Raises IncompleteError when something wanted is missing, unless `allow_partial`; DataError for timings that do not
    belong to the plan, stand there twice, are not positive, or whose cache differs between repetitions.
    """
    rows = timings.collect()
    _check_rows(rows, plan)
    found = {(arm_id, context_tokens) for arm_id, context_tokens in rows.select(_KEY).iter_rows()}
    if not allow_partial:
        _check_complete(found, wanted)
    judged = {row["arm_id"]: row for row in accuracy.filter(pl.col("scope") == OVERALL).iter_rows(named=True)}
    parts = rows.sort(*_KEY, "repeat").partition_by(_KEY, as_dict=True)
    made = list[Row]()
    for arm in plan.arms:
        for key in sorted(key for key in parts if key[0] == arm.arm_id):
            row = {"device": _device(arm, devices), **_describe(arm), **_measured(parts[key])}
            made.append({"context_tokens": key[1], **row, **_judged(judged.get(arm.arm_id))})
    return to_frame(to_table(made, "speed.v1"))


def untimed(found: Collection[Timed], wanted: Collection[Timed]) -> list[Timed]:
    """What was wanted and is not there, sorted."""
    return sorted(set(wanted).difference(found))


def _measured(part: pl.DataFrame) -> Row:
    """Of the repetitions of one arm at one length."""
    first = part.row(0, named=True)
    return {
        "num_repeats": part.height,
        **_ratios("prefill", part.get_column("dense_prefill_s") / part.get_column("prefill_s")),
        "prefill_s": _median(part.get_column("prefill_s")),
        **_ratios("decode", part.get_column("dense_decode_s") / part.get_column("decode_s")),
        "decode_tokens_per_s": _median(part.get_column("num_new_tokens") / part.get_column("decode_s")),
        **_peak(part),
        "cache_ratio": first["dense_cache_bytes"] / first["cache_bytes"],
        "cache_bytes": first["cache_bytes"],
        "predicted_cache_bytes": first["predicted_cache_bytes"],
    }


def _ratios(name: str, values: pl.Series) -> Row:
    return {f"{name}_ratio": _median(values), f"{name}_ratio_low": values.min(), f"{name}_ratio_high": values.max()}


def _peak(part: pl.DataFrame) -> Row:
    """Null when one repetition was not measured: a median over others would hide it."""
    own, dense = part.get_column("peak_bytes"), part.get_column("dense_peak_bytes")
    ratio = None if own.null_count() or dense.null_count() else _median(dense) / _median(own)
    return {"peak_ratio": ratio, "peak_bytes": None if own.null_count() else own.max()}


def _judged(row: Row | None) -> Row:
    names = ("num_pairs", "accuracy", "base_accuracy", "difference", "diff_low", "diff_high")
    return {name: None if row is None else row[name] for name in names}


def _describe(arm: Arm) -> Row:
    names = ("arm_id", "strategy", "per", "frac", "seed", "control_of", "num_heads", "query_head_frac", "kv_head_frac")
    return {"ranking_scope": arm.scope, **{name: getattr(arm, name) for name in names}}


def _device(arm: Arm, devices: Mapping[str, str]) -> str:
    if arm.arm_id not in devices:
        raise DataError(f"timings: arm {arm.arm_id!r} was timed on a device that nobody recorded. Time it again.")
    return devices[arm.arm_id]


def _median(values: pl.Series) -> float:
    return float(statistics.median(values.to_list()))


def _check_rows(rows: pl.DataFrame, plan: ArmPlan) -> None:
    known = {arm.arm_id for arm in plan.arms if not arm.is_base}
    foreign = sorted(set(rows.get_column("arm_id").unique()) - known)
    if foreign:
        raise DataError(
            f"timings: {len(foreign)} arms are not to be timed in the plan of {plan.run_id}, first {foreign[0]!r}. "
            "They belong to another plan: run speed again."
        )
    twice = rows.group_by(*_KEY, "repeat").len().filter(pl.col("len") > 1).sort(*_KEY, "repeat")
    if twice.height:
        arm_id, context_tokens, repeat, num_rows = twice.row(0)
        raise DataError(
            f"timings: repetition {repeat} of arm {arm_id!r} at {context_tokens} tokens has {num_rows} rows, "
            "allowed 1. Run verify."
        )
    for name in _POSITIVE:
        wrong = rows.filter(~((pl.col(name) > 0) & pl.col(name).cast(pl.Float64).is_finite())).sort(_KEY)
        if wrong.height:
            raise DataError(f"timings: {_place(wrong)} has {name} = {wrong.item(0, name)}, allowed is more than 0.")
    for name in _SAME:
        differing = rows.group_by(_KEY).agg(pl.col(name).n_unique()).filter(pl.col(name) > 1).sort(_KEY)
        if differing.height:
            raise DataError(f"timings: {_place(differing)} has {differing.item(0, name)} values of {name}, allowed 1.")


def _check_complete(found: Collection[Timed], wanted: Collection[Timed]) -> None:
    if not found:
        raise IncompleteError("timings: there are none. Run speed first.")
    missing = untimed(found, wanted)
    if missing:
        raise IncompleteError(
            f"timings: {len(missing)} of {len(set(wanted))} pairs of arm and length are missing, first "
            f"{missing[0][0]!r} at {missing[0][1]:,} tokens. Run speed again, which goes on where it stopped, or "
            "reduce what is there with ablate.allow_partial = true."
        )


def _place(rows: pl.DataFrame) -> str:
    return f"arm {rows.item(0, 'arm_id')!r} at {rows.item(0, 'context_tokens')} tokens"
