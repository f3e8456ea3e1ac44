"""Intervals cover the truth, shrink with data, and treat a context as one draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from rampipe.config import RankConfig
from rampipe.heads.bootstrap import bootstrap
from rampipe.heads.scopes import Scope
from rampipe.types import HeadId

CONFIG = RankConfig(bootstrap_samples=300)


def scope_of(values: np.ndarray, *, clusters: Sequence[int] | None = None, name: str = "c") -> Scope:
    """values: [sample, head]; clusters: the context of each sample, each its own when not given."""
    groups = np.arange(len(values)) if clusters is None else np.asarray(clusters)
    keys = np.unique(groups)
    sums = np.stack([np.nansum(values[groups == key], axis=0) for key in keys])
    counts = np.stack([(~np.isnan(values[groups == key])).sum(axis=0) for key in keys]).astype(np.float64)
    heads = tuple(HeadId(0, head) for head in range(values.shape[1]))
    return Scope(
        "overall", heads, num_samples=len(values), num_null=0, num_contexts=len(keys),
        clusters=tuple(f"{name}{key}" for key in keys), sums=sums, counts=counts, elsewhere=np.zeros(len(heads)),
    )  # fmt: skip


def test_interval_covers_the_true_mean() -> None:
    """300 data sets (heads) of 60 samples, nominal 95 %: binomial spread 1.3 %, percentile intervals run short."""
    values = np.random.default_rng(5).gamma(4.0, 0.25, size=(60, 300))
    found = bootstrap(scope_of(values), CONFIG)
    covered = ((found.low <= 1.0) & (found.high >= 1.0)).mean()
    assert 0.90 <= covered <= 0.98
    narrow = bootstrap(scope_of(values), CONFIG.model_copy(update={"confidence": 0.5}))
    assert 0.40 <= ((narrow.low <= 1.0) & (narrow.high >= 1.0)).mean() <= 0.58  # twin: a 50 % interval does not


def test_interval_widens_with_fewer_samples() -> None:
    values = np.random.default_rng(0).random((400, 20))
    wide, narrow = bootstrap(scope_of(values[:25]), CONFIG), bootstrap(scope_of(values), CONFIG)
    ratio = (wide.high - wide.low) / (narrow.high - narrow.low)
    assert 3.0 <= np.median(ratio) <= 5.0  # sqrt(400 / 25) = 4


def test_copies_within_a_context_add_no_certainty() -> None:
    values = np.random.default_rng(0).random((30, 10))
    alone = bootstrap(scope_of(values), CONFIG)
    tripled = np.repeat(values, 3, axis=0)
    together = bootstrap(scope_of(tripled, clusters=np.repeat(np.arange(30), 3).tolist()), CONFIG)
    np.testing.assert_allclose(together.high - together.low, alone.high - alone.low, rtol=1e-9)
    naive = bootstrap(scope_of(tripled), CONFIG)  # twin: as if the copies were independent
    assert np.median((naive.high - naive.low) / (alone.high - alone.low)) < 0.7


def test_selection_is_certain_for_a_dominating_head() -> None:
    values = np.random.default_rng(0).random((50, 40))
    values[:, 17] += 2.0
    values[:, 23] -= 2.0
    found = bootstrap(scope_of(values), CONFIG)
    assert found.selection[17] == 1.0
    assert found.selection[23] == 0.0


def test_selection_of_exchangeable_heads_is_k() -> None:
    """Over data sets: which head leads is chance, so selection is about k_frac on average."""
    rng = np.random.default_rng(0)
    config = RankConfig(bootstrap_samples=50, k_frac=0.2)
    selections = np.stack([bootstrap(scope_of(rng.random((30, 10))), config).selection for _ in range(80)])
    np.testing.assert_allclose(selections.sum(axis=1), 2.0)
    np.testing.assert_allclose(selections.mean(axis=0), 0.2, atol=0.12)


def test_one_context_has_no_interval() -> None:
    found = bootstrap(scope_of(np.random.default_rng(0).random((9, 3)), clusters=[0] * 9), CONFIG)
    assert np.isnan([found.low, found.high, found.selection]).all()


def test_undefined_head_stays_undefined() -> None:
    values = np.random.default_rng(0).random((12, 3))
    values[:, 1] = np.nan
    values[:11, 2] = np.nan
    found = bootstrap(scope_of(values), CONFIG)
    assert np.isnan([found.low[1], found.high[1], found.selection[1]]).all()
    assert found.low[2] == found.high[2] == pytest.approx(values[11, 2])


def test_replicates_depend_on_the_seed_only() -> None:
    values = np.random.default_rng(0).random((30, 4))
    first, again = bootstrap(scope_of(values), CONFIG), bootstrap(scope_of(values), CONFIG)
    other = bootstrap(scope_of(values), CONFIG.model_copy(update={"seed": 1}))
    assert first.low.tobytes() == again.low.tobytes()
    assert first.low.tobytes() != other.low.tobytes()
