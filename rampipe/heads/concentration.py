"""How few heads hold the retrieval: the sparsity claim in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from rampipe.heads.classes import rank_order


@dataclass(frozen=True, slots=True)
class Concentration:
    """Of the heads with a defined mean. Null where the positive mass is 0.

    positive: sum of max(mean, 0) over heads. half_heads: fewest heads that hold half of it. gini: of max(mean, 0),
    0 when all heads hold the same, near 1 when one holds all.
    """

    num_defined: int
    positive: float
    half_heads: int | None
    gini: float | None


def concentrate(means: Float64[np.ndarray, " head"]) -> Concentration:
    """Concentration of the positive mass over heads. Source: arXiv 2605.27243 (share of heads with half the mass)."""
    positive = positive_mass(means)
    total = float(np.cumsum(positive)[-1]) if len(positive) else 0.0
    if total == 0.0:
        return Concentration(len(positive), 0.0, None, None)
    half = int(np.searchsorted(np.cumsum(positive), total / 2.0, side="left")) + 1
    count = len(positive)
    position = np.arange(1, count + 1)
    # Sorted from high to low, so the usual ascending formula changes sign.
    gini = float(np.sum((count + 1 - 2 * position) * positive) / (count * total))
    return Concentration(count, total, half, gini)


def positive_mass(means: Float64[np.ndarray, " head"]) -> Float64[np.ndarray, " defined"]:
    """max(mean, 0) of the defined heads, from the highest to the lowest."""
    ordered = means[rank_order(means)]
    return np.maximum(ordered[~np.isnan(ordered)], 0.0)
