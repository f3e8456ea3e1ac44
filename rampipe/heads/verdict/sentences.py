"""The verdict in sentences, every number of which stands in the tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from rampipe.heads.scopes import OVERALL
from rampipe.heads.strategies import strategy_by_id
from rampipe.heads.verdict.outcomes import CONTROL
from rampipe.heads.verdict.spread import spread_of_controls
from rampipe.tables.arms import BASE, ArmPlan

Row = dict[str, Any]

_LOSSES = ("removes", "costs")
_WINS = ("adds", "gains")
"""What an ablation, or heads that are kept, do to accuracy."""


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
            parts = [_effect(row, confidence), *(_control(draw, row) for draw in draws)]
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
    name = _name(row)
    if row["difference"] is None:
        told = f"{name}: accuracy unknown, no answer was judged with and without it"
        return told + f" ({row['num_samples']} samples){_log_prob(row)}"
    interval = ""
    if row["diff_low"] is not None:
        interval = f"{confidence * 100:.4g} % interval {_signed(row['diff_low'])} to {_signed(row['diff_high'])}, "
    left_out = row["num_samples"] - row["num_pairs"]
    without = f", {left_out} samples without a pair" if left_out else ""
    return (
        f"{name} {' '.join(_change(row['kind'], row['difference']))} of {row['base_accuracy']:.2f} "
        f"(difference {_signed(row['difference'])}, {interval}Holm {_p_value(row['holm_p'])}, "
        f"{row['num_pairs']} samples{without}){_log_prob(row)}"
    )


def _control(draw: Row, target: Row) -> str:
    """The draw that comes nearest to the claim: the most harmful one of an ablation, the best one that is kept."""
    name = _spell(draw["strategy"])
    if draw["num_arms"] == 0:
        return f"{name} unknown"
    keeps = target["kind"] == "keep"
    nearest = draw["difference_max"] if keeps else draw["difference_min"]
    verb, amount = _change(target["kind"], nearest)
    is_win = verb in _WINS
    bound = "" if draw["num_arms"] == 1 else "at most " if keeps == is_win else "at least "
    return f"{name} {verb} {bound}{amount} ({_count(draw['num_arms'], 'draw')})"


def _conclusion(target: Row, draws: list[Row], plan: ArmPlan) -> Iterator[str]:
    """Whether the arm lies beyond every draw: the claim needs this, not a small p-value alone."""
    keeps = target["kind"] == "keep"
    known = [draw["difference_max" if keeps else "difference_min"] for draw in draws if draw["num_arms"]]
    if not known:
        if strategy_by_id(plan.arm(target["arm_id"]).strategy).CONTROLLED:
            yield "held against no random draw"
    elif target["difference"] is not None:
        beyond = target["difference"] > max(known) if keeps else target["difference"] < min(known)
        claim = "better than" if keeps else "more than"
        yield f"{claim} every random draw" if beyond else f"not {claim} random"


def _name(row: Row) -> str:
    """`top 5 %`, with what differs from the usual ablation."""
    share = "" if row["frac"] is None else f" {row['frac'] * 100:.4g} %"
    if row["strategy"] == "cumulative_mass":
        share += " (of the mass)"
    per = " of kv_heads" if row["per"] == "kv_head" else ""
    ranked = "" if row["ranking_scope"] == OVERALL else f" of the {row['ranking_scope']!r} ranking"
    arm = f"{_spell(row['strategy'])}{share}{per}{ranked}"
    if row["kind"] == "keep":
        return f"full attention for {arm} alone"
    how = [part for part, usual in ((row["mode"], "zero"), (row["positions"], "all")) if part != usual]
    return f"{arm} [{', '.join(how)}]" if how else arm


def _change(kind: str, difference: float) -> tuple[str, str]:
    """Verb and amount. A loss is a positive number; an improvement is said to be one."""
    amount = f"{abs(difference):.2f}"
    is_win = difference > 0 and amount != "0.00"
    return (_WINS if is_win else _LOSSES)[kind == "keep"], amount


def _log_prob(row: Row) -> str:
    if row["log_prob_difference"] is None:
        return ""
    return f", answer log-probability {_signed(row['log_prob_difference'])} nats per token"


def _signed(value: float) -> str:
    rounded = f"{value:+.2f}"
    return "0.00" if float(rounded) == 0.0 else rounded


def _p_value(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _spell(strategy: str) -> str:
    return {"layer_matched_random": "layer-matched random"}.get(strategy, strategy.replace("_", " "))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
