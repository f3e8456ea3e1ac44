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
from rampipe.heads.reduce import HeadValues
from rampipe.types import HeadId

OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class Scope:
    """Sums of one scope. A cluster is all samples of one context: they are not independent of each other.

    num_null: samples that are undefined for every head; they are in no cluster. sums, counts: of the defined values,
    a row per cluster, sorted by key; `counts` has one column when it is the same for all heads. elsewhere: mean mass
    on visual tokens outside the evidence; NaN where nothing is defined.
    """

    name: str
    heads: tuple[HeadId, ...]
    num_samples: int
    num_null: int
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


def iterate_scopes(values: HeadValues) -> Iterator[Scope]:
    """Overall first, then each domain by name. One at a time: a scope is as large as its samples x heads.

    Raises DataError for a domain that is called like the overall scope.
    """
    if OVERALL in values.domains:
        raise DataError(f"domain {OVERALL!r} is the name of the scope of all samples. Rename the domain.")
    everything = np.ones(values.samples.height, dtype=np.bool_)
    yield _scope(OVERALL, values, everything, values.elsewhere.sum(axis=0))
    domain = values.samples.get_column("domain")
    for index, name in enumerate(values.domains):
        yield _scope(name, values, (domain == name).to_numpy(), values.elsewhere[index])


def _scope(
    name: str,
    values: HeadValues,
    rows: Bool[np.ndarray, " sample"],
    elsewhere: Int64[np.ndarray, " head"],
) -> Scope:
    defined = values.defined
    kept = rows & defined.any(axis=1)
    counted = defined[kept]
    if counted.all():
        counted = counted[:, :1]
    keys = values.samples.filter(pl.Series(kept)).get_column("context_key")
    starts = np.flatnonzero((keys != keys.shift(1)).fill_null(value=True).to_numpy())
    sums = _sum_runs(np.nan_to_num(values.values[kept], copy=False), starts)
    counts = _sum_runs(counted.astype(np.float64), starts)
    num_defined = np.broadcast_to(counts.sum(axis=0), (len(values.heads),))
    mean_elsewhere = np.full(len(values.heads), np.nan)
    np.divide(elsewhere * 2.0**-40, num_defined, out=mean_elsewhere, where=num_defined > 0)
    clusters = tuple(keys.gather(starts))
    num_samples = int(rows.sum())
    return Scope(
        name,
        values.heads,
        num_samples=num_samples,
        num_null=num_samples - int(kept.sum()),
        clusters=clusters,
        sums=sums,
        counts=counts,
        elsewhere=mean_elsewhere,
    )


def _sum_runs(
    matrix: Float64[np.ndarray, "sample head"], starts: Int64[np.ndarray, " cluster"]
) -> Float64[np.ndarray, "cluster head"]:
    """Sum the rows of each run; `reduceat` refuses no run at all."""
    if len(starts) == 0:
        return np.zeros((0, matrix.shape[1]))
    return matrix if len(starts) == len(matrix) else np.add.reduceat(matrix, starts, axis=0)
