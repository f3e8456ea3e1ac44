"""Fast: full attention for the top heads alone is faster than dense, keeps the answers, and random heads do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from rampipe.heads.claims.claim import Claim, decide, nearest_arm
from rampipe.heads.scopes import OVERALL
from rampipe.heads.speed.sentences import gain, instead, kept_name, quality, sparsity
from rampipe.heads.verdict.spread import spread_of_controls
from rampipe.heads.verdict.words import signed, spell

Row = dict[str, Any]

FULL_FRAC = 0.10
"""The share of full heads that the claim is about, or the nearest that was timed."""
KEPT_MARGIN = 0.02
"""Accuracy that may go before answers count as lost."""


def fast(speed: pl.DataFrame | None, accuracy: pl.DataFrame | None) -> Claim:
    """From the arm of the top heads nearest to FULL_FRAC, at the longest timed prompt.

    Holds when every repetition of prefill and of decode is faster than dense, accuracy falls by at most KEPT_MARGIN,
    and every draw of as many random heads loses more than the interval of the top heads allows for. Unknown when only
    some repetitions are faster, the median among them: the machine was too noisy to tell.
    speed, accuracy: of the stage; null when nothing was timed.
    """
    if speed is None or accuracy is None:
        return Claim("fast", None, "", ("nothing was timed (speed.split is not set)",))
    longest = speed.filter(pl.col("context_tokens") == pl.col("context_tokens").max())
    top = nearest_arm(longest, FULL_FRAC)
    if top is None:
        return Claim("fast", None, "", ("no arm of the top heads was timed at the longest prompt",))
    is_control = (pl.col("scope") == OVERALL, pl.col("arm_id") == top["arm_id"])
    draws = spread_of_controls(accuracy).filter(*is_control).to_dicts()
    told = "; ".join([f"{kept_name(top)}: {gain(top)}", sparsity(top), quality(top), *map(instead, draws)])
    against = [*_slower(top), *_worse(top, draws)]
    return decide("fast", told, against=against, unknown=list(_unknown(top, draws)))


def _slower(top: Row) -> Iterator[str]:
    for name in ("prefill", "decode"):
        if top[f"{name}_ratio"] <= 1.0:
            yield f"{name} is not faster than dense"


def _worse(top: Row, draws: list[Row]) -> Iterator[str]:
    if top["difference"] is None:
        return
    if round(top["difference"], 9) < -KEPT_MARGIN:
        yield f"accuracy changes by {signed(top['difference'])}"
    least = top["difference"] if top["diff_low"] is None else top["diff_low"]
    for draw in draws:
        if draw["num_arms"] and draw["difference_max"] >= least:
            yield f"{spell(draw['strategy'])} heads that are kept do as well"


def _unknown(top: Row, draws: list[Row]) -> Iterator[str]:
    for name in ("prefill", "decode"):
        if top[f"{name}_ratio_low"] <= 1.0:
            yield f"{name} is faster than dense in some repetitions only"
    if top["difference"] is None:
        yield "no answer was judged with and without it"
    elif top["diff_low"] is None:
        yield "too few contexts for an interval"
    if not any(draw["num_arms"] for draw in draws):
        yield "held against no random draw"
