"""The table of speed as text: a row per timed arm under the dense model, and the draws that were judged under each."""

from __future__ import annotations

from typing import Any

import polars as pl

from rampipe.heads.scopes import OVERALL
from rampipe.report.arm_rows import draws_of, share, signed, span, spell
from rampipe.report.numbers import ABSENT, counted
from rampipe.report.speed_panels import kept_name
from rampipe.tables.arms import BASE

Row = dict[str, Any]
Texts = tuple[str, ...]

SPEED_COLUMNS = (
    "heads with full attention",
    "query heads (%)",
    "kv_heads (%)",
    "prefill ×",
    "decode ×",
    "cache ×",
    "peak memory ×",
    "accuracy",
    "difference to dense",
)


def speed_rows(speed: pl.DataFrame, accuracy: pl.DataFrame, *, context_tokens: int) -> tuple[Texts, ...]:
    """At one length: dense, then the timed arms in their order, each with the draws that it is held against.

    Rows of several devices name theirs.
    """
    overall = accuracy.filter(pl.col("scope") == OVERALL)
    judged = {row["arm_id"]: row for row in overall.iter_rows(named=True)}
    timed = speed.filter(pl.col("context_tokens") == context_tokens)
    devices = timed.get_column("device").unique()
    rows = [_dense(judged.get(BASE))]
    for row in timed.filter(pl.col("control_of").is_null()).iter_rows(named=True):
        place = f", on {row['device']}" if len(devices) > 1 else ""
        rows.append(_timed(row, judged.get(row["arm_id"]), place=place))
        for draw in timed.filter(pl.col("control_of") == row["arm_id"]).iter_rows(named=True):
            place = f", on {draw['device']}" if len(devices) > 1 else ""
            rows.append(_timed(draw, judged.get(draw["arm_id"]), place=place))
        for strategy, draws in draws_of(overall, row["arm_id"]):
            if draws.height > 1 or draws.item(0, "arm_id") not in timed.get_column("arm_id"):
                rows.append(_drawn(strategy, draws))
    return tuple(rows)


def _dense(base: Row | None) -> Texts:
    judged = _judged(base)[:1] if base is not None else (ABSENT,)
    return ("dense", "100.0", "100.0", *["1.00"] * 4, *judged, ABSENT)


def _timed(row: Row, judged: Row | None, *, place: str) -> Texts:
    return (
        (kept_name(row) if row["control_of"] is None else f"↳ {spell(row['strategy'])}, seed {row['seed']}") + place,
        share(row["query_head_frac"]),
        share(row["kv_head_frac"]),
        *(_ratio(row, name) for name in ("prefill", "decode", "cache", "peak")),
        *(_judged(judged) if judged is not None else (ABSENT, ABSENT)),
    )


def _judged(row: Row) -> tuple[str, str]:
    return (
        _with_range(share(row["accuracy"]), span(share(row["low"]), share(row["high"]))),
        _with_range(signed(row["difference"]), span(signed(row["diff_low"]), signed(row["diff_high"]))),
    )


def _drawn(strategy: str, draws: pl.DataFrame) -> Texts:
    """All draws, timed or not: mean, and from the smallest to the largest in place of an interval."""
    reached, lost = (draws.get_column(name).drop_nulls().to_list() for name in ("accuracy", "difference"))
    return (
        f"↳ {spell(strategy)}, mean of {counted(draws.height, 'draw')}",
        *(share(_mean(draws.get_column(name).drop_nulls().to_list())) for name in ("query_head_frac", "kv_head_frac")),
        *[ABSENT] * 4,
        _with_range(share(_mean(reached)), span(share(min(reached, default=None)), share(max(reached, default=None)))),
        _with_range(signed(_mean(lost)), span(signed(min(lost, default=None)), signed(max(lost, default=None)))),
    )


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _ratio(row: Row, name: str) -> str:
    """With the smallest and largest of several repetitions, where they were told apart."""
    ratio = row[f"{name}_ratio"]
    if ratio is None:
        return ABSENT
    ends = [f"{row[key]:.2f}" for end in ("low", "high") if (key := f"{name}_ratio_{end}") in row]
    return _with_range(f"{ratio:.2f}", span(*ends)) if ends and row["num_repeats"] > 1 else f"{ratio:.2f}"


def _with_range(value: str, ends: str) -> str:
    return value if ABSENT in (value, ends) else f"{value} ({ends})"
