"""Clustered bootstrap: how far a head's mean and its place in the top set would move with other samples.

Questions about one context see the same tokens, so whole contexts are drawn, not samples (as in the clustered standard
errors of arXiv 2411.00640). Weights are Poisson(1) per cluster, hashed from seed, replicate and context key: the order
of the data has no part in them, and another domain's data do not change a domain's replicates.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from rampipe.config import RankConfig
from rampipe.heads.classes import num_core, top_sets
from rampipe.heads.draws import poisson_weights
from rampipe.heads.scopes import Scope

NUM_THREADS = 2
"""Products use all cores by themselves; what is sorted and hashed beside them does not."""
_DRAWS_AT_ONCE = 100
"""Bounds the weights in memory: 100 x clusters."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Percentile interval of the mean, and the share of replicates with the head in the top set.

    All NaN with fewer than two clusters: one context says nothing about other contexts.
    """

    low: Float64[np.ndarray, " head"]
    high: Float64[np.ndarray, " head"]
    selection: Float64[np.ndarray, " head"]


def bootstrap(scope: Scope, config: RankConfig) -> Bootstrap:
    """Resample the clusters of one scope `config.bootstrap_samples` times.

    A replicate that draws no sample of a head (few clusters) is left out for that head.
    """
    undefined = np.full(len(scope.heads), np.nan)
    if len(scope.clusters) < 2:
        return Bootstrap(undefined, undefined, undefined)
    starts = range(0, config.bootstrap_samples, _DRAWS_AT_ONCE)
    chunks = [range(start, min(start + _DRAWS_AT_ONCE, config.bootstrap_samples)) for start in starts]
    size = num_core(config.k_frac, len(scope.heads))

    def resample(draws: range) -> tuple[Float64[np.ndarray, "draw head"], Float64[np.ndarray, " head"]]:
        drawn = scope.weighted_means(poisson_weights(scope.clusters, draws, seed=config.seed))
        return drawn, top_sets(drawn, size).sum(axis=0)

    with ThreadPoolExecutor(NUM_THREADS) as threads:
        found = list(threads.map(resample, chunks))
    means, chosen = np.concatenate([drawn for drawn, _ in found]), np.sum([count for _, count in found], axis=0)
    drawn = ~np.isnan(means)
    selection = np.divide(chosen, drawn.sum(axis=0), out=undefined.copy(), where=drawn.any(axis=0))
    low, high = _percentiles(means, config.confidence)
    return Bootstrap(low, high, selection)


def _percentiles(
    means: Float64[np.ndarray, "draw head"], confidence: float
) -> tuple[Float64[np.ndarray, " head"], Float64[np.ndarray, " head"]]:
    """The middle `confidence` of the replicates; NaN for a head that no replicate drew."""
    tails = [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0]
    result = np.full((2, means.shape[1]), np.nan)
    whole = ~np.isnan(means).any(axis=0)
    result[:, whole] = np.quantile(means[:, whole], tails, axis=0)
    for head in np.flatnonzero(~whole):
        drawn = means[~np.isnan(means[:, head]), head]
        if len(drawn):
            result[:, head] = np.quantile(drawn, tails)
    return result[0], result[1]
