"""The verdict in sentences, every number of which stands in the tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from rampipe.heads.scopes import OVERALL
from rampipe.heads.strategies import strategy_by_id
from rampipe.heads.verdict.outcomes import CONTROL
from rampipe.heads.verdict.spread import spread_of_controls
from rampipe.heads.verdict.words import arm_name, change, control_effect, percent, signed
from rampipe.tables.arms import BASE, ArmPlan

Row = dict[str, Any]


def verdict_lines(accuracy: pl.DataFrame, plan: ArmPlan, *, confidence: float) -> list[str]:
    """One sentence for each arm that is no control, over all samples and then over the control set.

    E.g. "top 5 % removes 0.96 of 0.97 (...); layer-matched random removes at most 0.02 (5 draws); more than every
    random draw". Missing outcomes are said first.
    """
    spread = spread_of_controls(accuracy)
    lines = list(_partial(accuracy))
    for scope in (OVERALL, CONTROL):
        arms = accuracy.filter(pl.col("scope") == scope, pl.col("control_of").is_null(), pl.col("arm_id") != BASE)
        for row in arms.iter_rows(named=True):
            of_arm = spread.filter(pl.col("scope") == scope, pl.col("arm_id") == row["arm_id"])
            draws = list(of_arm.iter_rows(named=True))
            parts = [_effect(row, confidence), *(control_effect(draw, row["kind"]) for draw in draws)]
            if scope == OVERALL:
                parts += _conclusion(row, draws, plan)
            lines.append(("text-only control: " if scope == CONTROL else "") + "; ".join(parts))
    return lines


def _partial(accuracy: pl.DataFrame) -> Iterator[str]:
    every = accuracy.filter(pl.col("scope").is_in([OVERALL, CONTROL]))
    missing, total = every.get_column("num_missing").sum(), every.get_column("num_samples").sum()
    if missing:
        yield f"PARTIAL: {missing} of {total} outcomes are missing"


def _effect(row: Row, confidence: float) -> str:
    name = arm_name(row)
    if row["difference"] is None:
        told = f"{name}: accuracy unknown, no answer was judged with and without it"
        return told + f" ({row['num_samples']} samples){_log_prob(row)}"
    interval = ""
    if row["diff_low"] is not None:
        interval = f"{percent(confidence)} interval {signed(row['diff_low'])} to {signed(row['diff_high'])}, "
    left_out = row["num_samples"] - row["num_pairs"]
    without = f", {left_out} samples without a pair" if left_out else ""
    return (
        f"{name} {' '.join(change(row['kind'], row['difference']))} of {row['base_accuracy']:.2f} "
        f"(difference {signed(row['difference'])}, {interval}Holm {_p_value(row['holm_p'])}, "
        f"{row['num_pairs']} samples{without}){_log_prob(row)}"
    )


def _conclusion(target: Row, draws: list[Row], plan: ArmPlan) -> Iterator[str]:
    """Whether the arm lies beyond every draw: the claim needs this, not a small p-value alone."""
    keeps = target["kind"] == "keep"
    known = [draw["difference_max" if keeps else "difference_min"] for draw in draws if draw["num_arms"]]
    if not known:
        has_others = 0.0 < target["query_head_frac"] < 1.0
        if has_others and strategy_by_id(plan.arm(target["arm_id"]).strategy).CONTROLLED:
            yield "held against no random draw"
    elif target["difference"] is not None:
        beyond = target["difference"] > max(known) if keeps else target["difference"] < min(known)
        claim = "better than" if keeps else "more than"
        yield f"{claim} every random draw" if beyond else f"not {claim} random"


def _log_prob(row: Row) -> str:
    if row["log_prob_difference"] is None:
        return ""
    return f", answer log-probability {signed(row['log_prob_difference'])} nats per token"


def _p_value(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
