"""Scopes: all samples of a run, or those of one domain, summed by cluster.

The overall mean is over all samples, so a domain weighs by its number of samples; domains are scopes of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int64

from rampipe.errors import DataError
from rampipe.heads.blocks import ELSEWHERE_STEP
from rampipe.heads.sums import HeadSums
from rampipe.types import HeadId

OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class Scope:
    """Sums of one scope. A cluster is all samples of one context, which are not independent of each other, or of
    several contexts, see `cluster_samples`.

    num_null: samples that are undefined for every head; they are in no cluster. num_contexts: of the others. sums,
    counts: of the defined values, a row per cluster, sorted by key; `counts` has one column when it is the same for
    all heads. elsewhere: mean mass on visual tokens outside the evidence; NaN where nothing is defined, or it was
    not read.
    """

    name: str
    heads: tuple[HeadId, ...]
    num_samples: int
    num_null: int
    num_contexts: int
    clusters: tuple[str, ...]
    sums: Float64[np.ndarray, "cluster head"]
    counts: Float64[np.ndarray, " cluster #head"]
    elsewhere: Float64[np.ndarray, " head"]

    @property
    def num_defined(self) -> Int64[np.ndarray, " head"]:
        """Samples in each head's mean."""
        return np.broadcast_to(self.counts.sum(axis=0), (len(self.heads),)).astype(np.int64)

    @property
    def means(self) -> Float64[np.ndarray, " head"]:
        """Mean over samples; NaN where no sample is defined."""
        return self.weighted_means(np.ones((1, len(self.clusters))))[0]

    def weighted_means(self, weights: Float64[np.ndarray, "draw cluster"]) -> Float64[np.ndarray, "draw head"]:
        """Mean per head with each cluster counted `weights` times; NaN where nothing is counted."""
        counted = weights @ self.counts
        total = weights @ self.sums
        return np.divide(total, counted, out=np.full_like(total, np.nan), where=counted > 0)


def iterate_scopes(sums: HeadSums) -> Iterator[Scope]:
    """Overall first, then each domain by name.

    Raises DataError for a domain that is called like the overall scope.
    """
    if OVERALL in sums.clusters.domains:
        raise DataError(f"domain {OVERALL!r} is the name of the scope of all samples. Rename the domain.")
    every = np.ones(len(sums.clusters.key), dtype=np.bool_)
    yield _scope(OVERALL, sums, every, sums.samples, None if sums.elsewhere is None else sums.elsewhere.sum(axis=0))
    for index, name in enumerate(sums.clusters.domains):
        samples = sums.samples.filter(pl.col("domain") == name)
        elsewhere = None if sums.elsewhere is None else sums.elsewhere[index]
        yield _scope(name, sums, sums.clusters.domain == index, samples, elsewhere)


def _scope(
    name: str,
    sums: HeadSums,
    rows: Bool[np.ndarray, " row"],
    samples: pl.DataFrame,
    elsewhere: Int64[np.ndarray, " head"] | None,
) -> Scope:
    counted = np.flatnonzero(rows & sums.counts.any(axis=1))
    keys = [sums.clusters.key[row] for row in counted.tolist()]
    starts = [place for place, key in enumerate(keys) if place == 0 or key != keys[place - 1]]
    counts = _sum_runs(sums.counts[counted], starts)
    if counts.shape[1] > 1 and (counts == counts[:, :1]).all():
        counts = counts[:, :1]
    num_defined = np.broadcast_to(counts.sum(axis=0), (len(sums.heads),))
    mean_elsewhere = np.full(len(sums.heads), np.nan)
    if elsewhere is not None:
        np.divide(elsewhere * ELSEWHERE_STEP, num_defined, out=mean_elsewhere, where=num_defined > 0)
    defined = samples.filter("defined")
    return Scope(
        name,
        sums.heads,
        num_samples=samples.height,
        num_null=samples.height - defined.height,
        num_contexts=defined.get_column("context_key").n_unique(),
        clusters=tuple(keys[start] for start in starts),
        sums=_sum_runs(sums.sums[counted], starts),
        counts=counts,
        elsewhere=mean_elsewhere,
    )


def _sum_runs(matrix: Float64[np.ndarray, "row head"], starts: list[int]) -> Float64[np.ndarray, "cluster head"]:
    """Sum the rows of each run; `reduceat` refuses no run at all."""
    if not starts:
        return np.zeros((0, matrix.shape[1]))
    return matrix if len(starts) == len(matrix) else np.add.reduceat(matrix, starts, axis=0)
