"""Clustered bootstrap of mean differences: whole contexts are drawn, the same ones for every arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from rampipe.heads.draws import poisson_weights

_DRAWS_AT_ONCE = 100
"""Bounds the weights in memory: 100 x contexts."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """num_draws replicates; the middle `confidence` of them is the interval. The seed and the keys decide the draws."""

    num_draws: int
    confidence: float
    seed: int


def difference_intervals(
    differences: Float64[np.ndarray, "sample arm"], context_keys: Sequence[str], resampling: Resampling
) -> Float64[np.ndarray, "end arm"]:
    """Lower and upper end of each arm's mean difference.

    differences: NaN where there is no pair. context_keys: of the samples, equal ones in a row.
    NaN for an arm with pairs in fewer than two contexts: one context says nothing about others.
    """
    result = np.full((2, differences.shape[1]), np.nan)
    keys = np.array(context_keys)
    if len(keys) == 0:
        return result
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    paired = ~np.isnan(differences)
    sums = np.add.reduceat(np.nan_to_num(differences), starts, axis=0)
    counts = np.add.reduceat(paired.astype(np.float64), starts, axis=0)
    means = np.concatenate(
        [_draw(sums, counts, keys[starts].tolist(), draws, resampling) for draws in _chunks(resampling)]
    )
    tails = [(1.0 - resampling.confidence) / 2.0, (1.0 + resampling.confidence) / 2.0]
    for arm in np.flatnonzero((counts > 0).sum(axis=0) >= 2):
        drawn = means[~np.isnan(means[:, arm]), arm]
        if len(drawn):
            result[:, arm] = np.quantile(drawn, tails)
    return result


def _draw(
    sums: Float64[np.ndarray, "cluster arm"],
    counts: Float64[np.ndarray, "cluster arm"],
    keys: Sequence[str],
    draws: range,
    resampling: Resampling,
) -> Float64[np.ndarray, "draw arm"]:
    """Mean differences of some replicates; NaN for a replicate without a pair."""
    weights = poisson_weights(keys, draws, seed=resampling.seed)
    counted = weights @ counts
    return np.divide(weights @ sums, counted, out=np.full_like(counted, np.nan), where=counted > 0)


def _chunks(resampling: Resampling) -> list[range]:
    starts = range(0, resampling.num_draws, _DRAWS_AT_ONCE)
    return [range(start, min(start + _DRAWS_AT_ONCE, resampling.num_draws)) for start in starts]
