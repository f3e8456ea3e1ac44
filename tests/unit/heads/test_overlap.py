"""Which scopes are compared, and how alike they are."""

from __future__ import annotations

import numpy as np
import pytest

from rampipe.config import RankConfig
from rampipe.errors import ConfigError
from rampipe.heads.overlap import ScopeMeans, compare_scopes
from rampipe.types import HeadId

CONFIG = RankConfig(k_frac=0.2)
HEADS = tuple(HeadId(layer, head) for layer in range(2) for head in range(5))
FALLING = np.arange(10.0)[::-1].copy()


def means(run_id: str, scope: str, values: np.ndarray) -> ScopeMeans:
    return ScopeMeans(run_id, scope, HEADS, values)


def test_top_sets_and_rank_correlation() -> None:
    swapped = FALLING.copy()
    swapped[[1, 2]] = swapped[[2, 1]]
    [same] = compare_scopes([means("a", "docs", FALLING), means("a", "films", FALLING * 7)], CONFIG)
    assert (same.num_core, same.num_shared, same.jaccard, same.spearman) == (2, 2, 1.0, pytest.approx(1.0))
    [other] = compare_scopes([means("a", "docs", FALLING), means("a", "films", swapped)], CONFIG)
    assert (other.num_shared, other.jaccard) == (1, pytest.approx(1 / 3))
    [reverse] = compare_scopes([means("a", "docs", FALLING), means("a", "films", -FALLING)], CONFIG)
    assert (reverse.num_shared, reverse.jaccard, reverse.spearman) == (0, 0.0, pytest.approx(-1.0))


def test_scope_without_means_is_null_not_zero() -> None:
    [found] = compare_scopes(
        [means("a", "docs", np.full(10, np.nan)), means("a", "films", np.full(10, np.nan))], CONFIG
    )
    assert (found.num_shared, found.jaccard, found.spearman) == (0, None, None)


def test_pairs_of_several_runs() -> None:
    scopes = [means(run, scope, FALLING) for run in "ab" for scope in ("overall", "docs", "films")]
    pairs = [(row.run_a, row.scope_a, row.run_b, row.scope_b) for row in compare_scopes(scopes, CONFIG)]
    assert len(pairs) == len(set(pairs)) == 7  # overall with overall, and 4 domains with each other
    assert ("a", "overall", "b", "overall") in pairs
    assert ("a", "docs", "b", "docs") in pairs
    assert not any((first == "overall") != (second == "overall") for _, first, _, second in pairs)


def test_models_of_another_shape_are_refused() -> None:
    other = ScopeMeans("b", "docs", (*HEADS, HeadId(2, 0)), np.arange(11.0))
    with pytest.raises(ConfigError, match=r"runs a \(10 heads, last 1\.4\) and b \(11 heads, last 2\.0\)"):
        compare_scopes([means("a", "docs", FALLING), other], CONFIG)
