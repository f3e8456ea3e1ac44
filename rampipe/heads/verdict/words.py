"""How arms and numbers are spelled in sentences."""

from __future__ import annotations

from typing import Any

from rampipe.heads.scopes import OVERALL

Row = dict[str, Any]

_LOSSES = ("removes", "costs")
WINS = ("adds", "gains")
"""What an ablation, or heads that are kept, do to accuracy."""


def arm_name(row: Row) -> str:
    """`top 5 %`, with what differs from the usual ablation; for heads that are kept, what the others do."""
    share = "" if row["frac"] is None else f" {percent(row['frac'])}"
    if row["strategy"] == "cumulative_mass":
        share += " (of the mass)"
    per = " of kv_heads" if row["per"] == "kv_head" else ""
    ranked = "" if row["ranking_scope"] == OVERALL else f" of the {row['ranking_scope']!r} ranking"
    arm = f"{spell(row['strategy'])}{share}{per}{ranked}"
    if row["kind"] == "keep":
        alike = {0.0: "no head", 1.0: "every head"}.get(row["query_head_frac"])
        return f"full attention for {arm} alone" if alike is None else f"full attention for {alike}"
    how = [part for part, usual in ((row["mode"], "zero"), (row["positions"], "all")) if part != usual]
    return f"{arm} [{', '.join(how)}]" if how else arm


def change(kind: str, difference: float) -> tuple[str, str]:
    """Verb and amount. A loss is a positive number; an improvement is said to be one."""
    amount = f"{abs(difference):.2f}"
    is_win = difference > 0 and amount != "0.00"
    return (WINS if is_win else _LOSSES)[kind == "keep"], amount


def control_effect(draw: Row, kind: str) -> str:
    """The draw that comes nearest to the claim: the most harmful one of an ablation, the best one that is kept.

    draw: a row of spread.v1.
    """
    name = spell(draw["strategy"])
    if draw["num_arms"] == 0:
        return f"{name} unknown"
    keeps = kind == "keep"
    verb, amount = change(kind, draw["difference_max" if keeps else "difference_min"])
    is_win = verb in WINS
    bound = "" if draw["num_arms"] == 1 else "at most " if keeps == is_win else "at least "
    return f"{name} {verb} {bound}{amount} ({count(draw['num_arms'], 'draw')})"


def spell(strategy: str) -> str:
    """A strategy in words."""
    return {"layer_matched_random": "layer-matched random"}.get(strategy, strategy.replace("_", " "))


def percent(share: float) -> str:
    """Four significant digits at most: 5 %, 0.25 %."""
    return f"{share * 100:.4g} %"


def signed(value: float) -> str:
    """Two decimals; zero has no sign."""
    rounded = f"{value:+.2f}"
    return "0.00" if float(rounded) == 0.0 else rounded


def count(number: int, noun: str) -> str:
    """1 draw, 2 draws."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
