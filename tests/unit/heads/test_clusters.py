"""Few contexts are their own clusters; many are dealt into as many as fit, and say the same."""

from __future__ import annotations

import numpy as np
import polars as pl

from rampipe.config import RankConfig
from rampipe.heads.bootstrap import bootstrap
from rampipe.heads.clusters import cluster_samples
from tests.unit.heads.test_bootstrap import scope_of


def samples_of(contexts: list[str], *, domains: int = 1) -> pl.DataFrame:
    rows = [{"context_key": key, "domain": f"d{index % domains}"} for index, key in enumerate(contexts)]
    return pl.DataFrame(rows)


def test_few_contexts_are_clusters_and_a_domain_splits_them() -> None:
    found = cluster_samples(samples_of(["b", "a", "b", "b"], domains=2), num_heads=4)
    assert (found.domains, found.key, found.domain.tolist()) == (("d0", "d1"), ("a", "b", "b"), [1, 0, 1])
    assert found.row_of_sample.tolist() == [1, 0, 1, 2]


def test_many_contexts_are_dealt_evenly_and_whatever_their_order() -> None:
    keys = [f"{number:05d}" for number in range(1000)]
    found = cluster_samples(samples_of(keys), num_heads=4, max_clusters=100)
    assert set(np.bincount(found.row_of_sample)) == {10}
    backwards = cluster_samples(samples_of(keys[::-1]), num_heads=4, max_clusters=100)
    assert backwards.row_of_sample[::-1].tolist() == found.row_of_sample.tolist()
    neighbours = found.row_of_sample[:10]
    assert len(set(neighbours.tolist())) > 5  # twin: cut in order, the first ten would share a cluster


def test_samples_of_one_context_share_a_cluster() -> None:
    keys = [f"{number // 5:05d}" for number in range(1000)]
    found = cluster_samples(samples_of(keys), num_heads=4, max_clusters=64).row_of_sample.reshape(200, 5)
    assert (found == found[:, :1]).all()


def test_sums_stay_small_with_many_heads_and_domains() -> None:
    keys = [f"{number:05d}" for number in range(4000)]
    found = cluster_samples(samples_of(keys, domains=20), num_heads=8192)
    assert len(found.key) * 8192 * 8 <= 600 << 20
    assert len(set(cluster_samples(samples_of(keys, domains=20), num_heads=64).key)) == 2048


def test_intervals_of_groups_are_those_of_contexts() -> None:
    values = np.random.default_rng(3).gamma(2.0, 0.1, size=(4000, 12))
    keys = [f"{number:05d}" for number in range(4000)]
    groups = cluster_samples(samples_of(keys), num_heads=12, max_clusters=500).row_of_sample
    config = RankConfig(bootstrap_samples=1000)
    alone, grouped = bootstrap(scope_of(values), config), bootstrap(scope_of(values, clusters=groups.tolist()), config)
    ratio = (grouped.high - grouped.low) / (alone.high - alone.low)
    assert 0.93 <= np.median(ratio) <= 1.07
    order = np.argsort(values.sum(axis=1))
    sorted_groups = np.empty(4000, dtype=np.int64)
    sorted_groups[order] = np.arange(4000) * 500 // 4000
    alike = bootstrap(scope_of(values, clusters=sorted_groups.tolist()), config)  # twin: groups that are not random
    assert np.median((alike.high - alike.low) / (alone.high - alone.low)) > 1.15
