"""Split-half reliability: would half of the data have given the same ranking?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rampipe.config import RankConfig
from rampipe.heads.classes import jaccard, num_core, top_heads
from rampipe.heads.correlation import pearson, spearman, spearman_brown
from rampipe.heads.draws import half_split
from rampipe.heads.scopes import Scope

NUM_SPLITS = 100


@dataclass(frozen=True, slots=True)
class Stability:
    """Means over splits into two halves of clusters; null with fewer than two clusters.

    pearson, spearman: between the halves' head means. reliability, rank_reliability: the same for the whole, by
    Spearman-Brown. jaccard: of the halves' top sets, with the middle 95 % of splits.
    """

    num_splits: int
    pearson: float | None
    reliability: float | None
    spearman: float | None
    rank_reliability: float | None
    jaccard: float | None
    jaccard_low: float | None
    jaccard_high: float | None


def split_half(scope: Scope, config: RankConfig) -> Stability:
    """Split the clusters of a scope NUM_SPLITS times, by hash of seed and context key."""
    if len(scope.clusters) < 2:
        return Stability(0, None, None, None, None, None, None, None)
    size = num_core(config.k_frac, len(scope.heads))
    first = half_split(scope.clusters, range(NUM_SPLITS), seed=config.seed)
    pairs = list(zip(scope.weighted_means(first), scope.weighted_means(1.0 - first), strict=True))
    linear = _mean([pearson(left, right) for left, right in pairs])
    ranked = _mean([spearman(left, right) for left, right in pairs])
    shared = [jaccard(top_heads(left, size), top_heads(right, size)) for left, right in pairs]
    spread = sorted(value for value in shared if value is not None)
    low, high = np.quantile(spread, [0.025, 0.975]) if spread else (None, None)
    return Stability(
        num_splits=NUM_SPLITS,
        pearson=linear,
        reliability=spearman_brown(linear),
        spearman=ranked,
        rank_reliability=spearman_brown(ranked),
        jaccard=_mean(shared),
        jaccard_low=None if low is None else float(low),
        jaccard_high=None if high is None else float(high),
    )


def _mean(values: list[float | None]) -> float | None:
    """Mean over the splits where the value is defined; null when it never is."""
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None
