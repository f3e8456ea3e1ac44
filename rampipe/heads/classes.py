"""Classes of heads: CoRe, contextual, other."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

HeadClass = Literal["core", "contextual", "other"]
HEAD_CLASSES: tuple[HeadClass, ...] = ("core", "contextual", "other")

CONTEXTUAL_MASS = 0.5
"""A contextual head gives more than this share of its attention to visual tokens outside the evidence."""


def num_core(k_frac: float, num_heads: int) -> int:
    """Size of the top set: k_frac of all heads, rounded half up, at least 1; 5 % of 96 heads is 5 (4.8).

    Decimal, because 0.145 * 100 is 14.499999999999998 in floats.
    """
    exact = Decimal(repr(k_frac)) * num_heads
    return min(num_heads, max(1, int(exact.to_integral_value(ROUND_HALF_UP))))


def rank_order(means: Float64[np.ndarray, "*draw head"]) -> Int64[np.ndarray, "*draw head"]:
    """Head indices from the highest mean to the lowest; ties by layer, then head; undefined (NaN) last."""
    return np.argsort(-means, axis=-1, kind="stable").astype(np.int64)


def top_heads(means: Float64[np.ndarray, " head"], size: int) -> set[int]:
    """Indices of the `size` heads with the highest mean: fewer when fewer are defined."""
    return {int(index) for index in rank_order(means)[:size] if not np.isnan(means[index])}


def top_sets(means: Float64[np.ndarray, "draw head"], size: int) -> Float64[np.ndarray, "draw head"]:
    """1 where a head is among the `size` highest of its draw; undefined heads never are."""
    chosen = np.zeros_like(means)
    np.put_along_axis(chosen, rank_order(means)[:, :size], 1.0, axis=1)
    return np.where(np.isnan(means), 0.0, chosen)


def head_class(rank: int | None, elsewhere: float | None, *, size: int) -> HeadClass | None:
    """Class of one head; null for a head without a rank.

    rank: 1 is the highest. elsewhere: mean mass on visual tokens outside the evidence, [0, 1]; null where it was not
    read, and then only "core" is known.
    """
    if rank is None:
        return None
    if rank <= size:
        return "core"
    if elsewhere is None:
        return None
    return "contextual" if elsewhere > CONTEXTUAL_MASS else "other"


def jaccard(left: set[int], right: set[int]) -> float | None:
    """Shared part of two sets, [0, 1]; null when both are empty."""
    union = left | right
    return len(left & right) / len(union) if union else None
