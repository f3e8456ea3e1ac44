"""Sums of parts of a run, merged: every tree over every order gives the same bytes."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rampipe.config import RankConfig
from rampipe.errors import DataError, IncompleteError
from rampipe.heads.metrics import metric_by_id
from rampipe.heads.ranking import rank_scope
from rampipe.heads.reduce import find_wanted, reduce_metric, sum_parts
from rampipe.heads.scopes import iterate_scopes
from rampipe.heads.sums import PartialSums
from tests.unit.heads.planted import Study, planted_masses

SHARE = metric_by_id("visual_share")  # quotients: all bits of a float64 are used
MASSES = planted_masses(30, {}, shape=(2, 3))
MASSES[4:9, 0, 1] = 0.0  # undefined for one head
STUDY = Study(
    MASSES,
    np.where(MASSES > 0, 0.1, 0.0),
    domains=("docs", "films"),
    per_context=3,
    without_evidence=frozenset({0, 17}),
)
PARTS, SAMPLES = STUDY.parts(part_samples=4)
WANTED = find_wanted(PARTS, SAMPLES, SHARE)
LEAVES = [sum_parts([part], WANTED) for part in PARTS]
WHOLE = sum_parts(PARTS, WANTED)
STRAIGHT = reduce_metric(PARTS, SAMPLES, SHARE)


def content(sums: PartialSums) -> tuple[bytes, ...]:
    arrays = (sums.sums, sums.whole, sums.partly, sums.elsewhere, sums.seen, sums.defined)
    return tuple(b"" if array is None else array.tobytes() for array in arrays)


@given(order=st.permutations(range(len(LEAVES))), joins=st.lists(st.integers(0, 99), min_size=len(LEAVES) - 1))
def test_any_tree_over_any_order_gives_the_bytes_of_one_pass(order: list[int], joins: list[int]) -> None:
    forest = [LEAVES[place] for place in order]
    for join in joins[: len(LEAVES) - 1]:
        left = forest.pop(join % len(forest))
        right = forest.pop(join % len(forest))
        forest.append(left.merge(right))
    (merged,) = forest
    assert content(merged) == content(WHOLE)
    assert merged.finished().sums.tobytes() == STRAIGHT.sums.tobytes()
    assert merged.finished().counts.tobytes() == STRAIGHT.counts.tobytes()


def test_zero_is_neutral_and_merging_changes_neither_side() -> None:
    left, before = LEAVES[1], content(LEAVES[1])
    merged = left.merge(PartialSums.zero(WANTED))
    assert content(merged) == before
    assert merged.elsewhere is not None
    for array in (merged.sums, merged.whole, merged.elsewhere, merged.seen, merged.defined):
        array[:] = 1
    assert content(left) == before


def test_without_the_grid_the_order_would_matter() -> None:
    """Twin: the same quotients as they are."""
    rng = np.random.default_rng(0)
    values = MASSES.astype(np.float32).astype(np.float64) / 0.3
    found = {reduce(lambda a, b: a + b, rng.permutation(values)).tobytes() for _ in range(20)}
    assert len(found) > 1


def test_a_sample_on_both_sides_is_refused() -> None:
    with pytest.raises(DataError, match=r"sample 'docs/00000', head 0\.0, query 'question', has 2 rows"):
        LEAVES[0].merge(LEAVES[0])


def test_a_missing_part_is_noticed_at_the_end() -> None:
    with pytest.raises(IncompleteError, match="26 of 30"):
        reduce(PartialSums.merge, LEAVES[1:]).finished()


def test_masses_elsewhere_are_read_when_they_are_wanted() -> None:
    """Twin of the sums above, which hold them: without, nothing else changes, and absent is not 0."""
    without = find_wanted(PARTS, SAMPLES, SHARE, elsewhere=False)
    found = sum_parts(PARTS[:3], without).merge(sum_parts(PARTS[3:], without)).finished()
    assert WHOLE.finished().elsewhere is not None
    assert found.elsewhere is None
    assert found.sums.tobytes() == STRAIGHT.sums.tobytes()
    scopes = list(iterate_scopes(found))
    assert all(np.isnan(scope.elsewhere).all() for scope in scopes)
    classes = [row["class"] for row in rank_scope(scopes[0], SHARE.ID, RankConfig(bootstrap_samples=10)).ranking]
    assert {*classes} == {"core", None}
