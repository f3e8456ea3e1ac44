"""Which sum each sample goes to: one per domain and cluster of contexts.

A cluster is one context, as samples that share one are not independent. Of many contexts, a fixed number of clusters
is made, each of as many contexts as the others, dealt by hash: a bootstrap over random groups estimates the same
variance (2,048 groups: its standard error has an error of 1.6 %, 1,000 replicates alone 2.2 %), and memory no longer
grows with samples.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Int64

MAX_CLUSTERS = 2048
_SUM_BYTES = 512 << 20
"""All sums together stay below this, with fewer clusters where domains and heads are many."""
_MIN_CLUSTERS = 64


@dataclass(frozen=True, slots=True)
class Clusters:
    """Rows of the sums, sorted by (cluster, domain): `key` and `domain` of each, and the row of each sample."""

    domains: tuple[str, ...]
    key: tuple[str, ...]
    domain: Int64[np.ndarray, " row"]
    row_of_sample: Int64[np.ndarray, " sample"]


def cluster_samples(samples: pl.DataFrame, *, num_heads: int, max_clusters: int = MAX_CLUSTERS) -> Clusters:
    """samples: context_key and domain of each. The order of samples does not matter."""
    domains = tuple(samples.get_column("domain").unique().sort())
    fitting = _SUM_BYTES // (8 * num_heads * max(len(domains), 1))
    keys = samples.get_column("context_key").unique().sort().to_list()
    names, cluster = _clusters_of(keys, max(_MIN_CLUSTERS, min(max_clusters, fitting)))
    of_sample = cluster[_places(samples, "context_key")] * len(domains) + _places(samples, "domain")
    present, row_of_sample = np.unique(of_sample, return_inverse=True)
    number, domain = np.divmod(present, max(len(domains), 1))
    return Clusters(domains, tuple(names[place] for place in number.tolist()), domain, row_of_sample)


def _places(samples: pl.DataFrame, name: str) -> Int64[np.ndarray, " sample"]:
    """Of each sample's value among the sorted values of a column."""
    return samples.get_column(name).rank("dense").to_numpy().astype(np.int64) - 1


def _clusters_of(keys: list[str], most: int) -> tuple[list[str], Int64[np.ndarray, " context"]]:
    """Names of the clusters, and which one each context is in: its own while there are few."""
    if len(keys) <= most:
        return keys, np.arange(len(keys))
    digests = b"".join([hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys])
    place = np.empty(len(keys), dtype=np.int64)
    place[np.argsort(np.frombuffer(digests, dtype="<u8"), kind="stable")] = np.arange(len(keys))
    return [f"cluster-{number:06d}" for number in range(most)], place * most // len(keys)
