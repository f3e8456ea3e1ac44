"""Halves agree where heads differ, and do not where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from rampipe.config import RankConfig
from rampipe.heads.correlation import pearson, spearman, spearman_brown
from rampipe.heads.metrics import metric_by_id
from rampipe.heads.reduce import reduce_metric
from rampipe.heads.scopes import Scope, iterate_scopes
from rampipe.heads.stability import NUM_SPLITS, split_half
from rampipe.types import HeadId
from tests.unit.heads.planted import Study, planted_masses, shuffled_heads

CONFIG = RankConfig()
PLANTED = {HeadId(1, 2): 0.3, HeadId(3, 4): 0.2}


def overall(study: Study) -> Scope:
    return next(iterate_scopes(reduce_metric(*study.parts(), metric_by_id("ram"))))


def test_planted_heads_are_reliable_and_shuffled_are_not() -> None:
    masses = planted_masses(60, PLANTED)
    planted, shuffled = split_half(overall(Study(masses)), CONFIG), split_half(
        overall(Study(shuffled_heads(masses))), CONFIG
    )  # fmt: skip
    assert planted.num_splits == shuffled.num_splits == NUM_SPLITS >= 100
    assert planted.jaccard == planted.jaccard_low == planted.jaccard_high == 1.0
    assert planted.pearson is not None and planted.reliability is not None
    assert 0.95 < planted.pearson < planted.reliability <= 1.0
    assert shuffled.pearson is not None and abs(shuffled.pearson) < 0.35
    assert shuffled.jaccard is not None and shuffled.jaccard < 0.4


def test_splits_follow_contexts() -> None:
    """Copies of one sample in one context never agree with themselves across halves."""
    masses = shuffled_heads(planted_masses(20, {}, seed=3))
    copies = np.repeat(masses, 4, axis=0)
    together, apart = split_half(overall(Study(copies, per_context=4)), CONFIG), split_half(
        overall(Study(copies)), CONFIG
    )  # fmt: skip
    assert together.pearson is not None and apart.pearson is not None
    assert together.pearson == pytest.approx(split_half(overall(Study(masses)), CONFIG).pearson, abs=0.1)
    assert apart.pearson > together.pearson + 0.2  # twin: leaking copies into both halves looks reliable


def test_one_context_has_no_halves() -> None:
    found = split_half(overall(Study(planted_masses(6, PLANTED), per_context=6)), CONFIG)
    assert (found.num_splits, found.pearson, found.rank_reliability, found.jaccard) == (0, None, None, None)


def test_correlations_on_known_cases() -> None:
    line = np.array([1.0, 2.0, 3.0, 4.0])
    assert pearson(line, 2 * line + 1) == pytest.approx(1.0)
    assert pearson(line, -line) == pytest.approx(-1.0)
    assert pearson(line, np.array([1.0, 3.0, 2.0, 4.0])) == pytest.approx(0.8)
    assert spearman(line, np.exp(line)) == pytest.approx(1.0)
    assert pearson(line, np.exp(line)) != pytest.approx(1.0)
    assert spearman(np.array([1.0, 1.0, 2.0, 3.0]), line) == pytest.approx(0.9486832980505138)


def test_correlation_that_is_undefined_is_null() -> None:
    assert pearson(np.ones(5), np.arange(5.0)) is None
    assert pearson(np.array([1.0, np.nan, 2.0]), np.array([1.0, 2.0, 3.0])) is None
    assert spearman(np.full(4, np.nan), np.arange(4.0)) is None


def test_spearman_brown() -> None:
    assert spearman_brown(0.5) == pytest.approx(2 / 3)
    assert spearman_brown(1.0) == 1.0
    assert spearman_brown(-0.1) is None
    assert spearman_brown(None) is None
