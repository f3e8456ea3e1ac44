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
    keys = samples.get_column("context_key").unique().sort()
    cluster = _clusters_of(keys.to_list(), max(_MIN_CLUSTERS, min(max_clusters, fitting)))
    lookup = pl.DataFrame({"context_key": keys, "cluster": cluster})
    named = samples.select("context_key", "domain").join(lookup, on="context_key", maintain_order="left")
    rows = named.select("cluster", "domain").unique().sort("cluster", "domain").with_row_index("row")
    placed = named.join(rows, on=["cluster", "domain"], maintain_order="left").get_column("row")
    position = {domain: index for index, domain in enumerate(domains)}
    return Clusters(
        domains=domains,
        key=tuple(rows.get_column("cluster")),
        domain=np.array([position[domain] for domain in rows.get_column("domain")], dtype=np.int64),
        row_of_sample=placed.cast(pl.Int64).to_numpy(),
    )


def _clusters_of(keys: list[str], most: int) -> list[str]:
    """Name of each context's cluster: its own key while there are few."""
    if len(keys) <= most:
        return keys
    hashes = np.array([int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") for key in keys])
    place = np.empty(len(keys), dtype=np.int64)
    place[np.argsort(hashes, kind="stable")] = np.arange(len(keys))
    return [f"cluster-{number:06d}" for number in (place * most // len(keys)).tolist()]
