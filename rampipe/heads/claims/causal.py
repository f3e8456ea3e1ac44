"""Causal: without the top heads the answers are gone, without any others they are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from rampipe.heads.claims.claim import Claim, decide, nearest_arm
from rampipe.heads.scopes import OVERALL
from rampipe.heads.verdict.spread import spread_of_controls
from rampipe.heads.verdict.words import arm_name, change, control_effect, percent, signed, spell

Row = dict[str, Any]
_WAY = ("mode", "positions", "per", "ranking_scope", "frac")


def causal(accuracy: pl.DataFrame | None, *, k_frac: float) -> Claim:
    """From the ablation of the top heads whose share is nearest to `k_frac`, over all samples but the control set.

    Holds when the interval of what the top heads remove lies wholly beyond zero, beyond every random draw and beyond
    the bottom heads. accuracy: of the judge; null when nothing was ablated.
    """
    if accuracy is None:
        return Claim("causal", None, "", ("no head was silenced (ablate.split is not set)",))
    overall = accuracy.filter(pl.col("scope") == OVERALL)
    top = nearest_arm(overall, k_frac)
    if top is None:
        return Claim("causal", None, "", ("the ablation has no arm of the top heads",))
    if top["difference"] is None:
        return Claim("causal", None, "", (f"no answer was judged with and without the {arm_name(top)}",))
    draws = spread_of_controls(overall).filter(pl.col("arm_id") == top["arm_id"]).to_dicts()
    bottom = overall.filter(pl.col("strategy") == "bottom", *(pl.col(name) == top[name] for name in _WAY)).to_dicts()
    others = [_bottom_effect(row) for row in bottom] + [control_effect(draw, "ablate") for draw in draws]
    told = "; ".join([_effect(top), *others])
    return decide("causal", told, against=list(_against(top, bottom, draws)), unknown=list(_unknown(top, draws)))


def _effect(top: Row) -> str:
    left = top["base_accuracy"] + top["difference"]
    kv_heads = "unknown" if top["kv_head_frac"] is None else percent(top["kv_head_frac"])
    return (
        f"without the {arm_name(top)} accuracy is {left:.2f} of {top['base_accuracy']:.2f} "
        f"({percent(top['query_head_frac'])} of query heads, in {kv_heads} of kv_heads)"
    )


def _bottom_effect(row: Row) -> str:
    known = row["difference"] is not None
    return f"bottom {' '.join(change('ablate', row['difference']))}" if known else "bottom unknown"


def _against(top: Row, bottom: list[Row], draws: list[Row]) -> Iterator[str]:
    end = top["diff_high"]
    if top["difference"] >= 0.0:
        yield "removing them removes no right answer"
    elif end is not None and end >= 0.0:
        yield f"what they remove may be nothing (interval {signed(top['diff_low'])} to {signed(end)})"
    others = [(spell(draw["strategy"]), draw["difference_min"]) for draw in draws]
    others += [(row["strategy"], row["difference"]) for row in bottom]
    for name, worst in others:
        if worst is not None and worst < 0.0 and (top["difference"] if end is None else end) >= worst:
            yield f"{name} heads are as harmful ({' '.join(change('ablate', worst))})"


def _unknown(top: Row, draws: list[Row]) -> Iterator[str]:
    if top["diff_high"] is None:
        yield "too few contexts for an interval"
    if not any(draw["num_arms"] for draw in draws):
        yield "held against no random draw"
