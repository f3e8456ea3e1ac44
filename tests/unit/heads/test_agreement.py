"""Agreement of two rankings, against what is counted by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rampipe.heads.agreement import agree, kendall, rank_biased_overlap
from rampipe.heads.lists.head_list import HeadList, HeadShape, from_means
from rampipe.types import HeadId

HEADS = [HeadId(layer, head) for layer in range(4) for head in range(5)]
SHAPE = HeadShape(4, 5)
OURS = {head: float(len(HEADS) - place) for place, head in enumerate(HEADS)}


def test_the_same_ranking_agrees_and_the_reverse_does_not() -> None:
    same = agree(OURS, from_means(OURS, SHAPE), k_frac=0.2)
    assert (same.size, same.num_shared, same.jaccard) == (4, 4, 1.0)
    assert (same.spearman, same.kendall) == (1.0, 1.0)
    assert same.rank_biased_overlap == pytest.approx(1.0)
    other = agree(OURS, from_means({head: -mean for head, mean in OURS.items()}, SHAPE), k_frac=0.2)
    assert (other.num_shared, other.jaccard, other.rank_biased_overlap) == (0, 0.0, 0.0)
    assert other.spearman == pytest.approx(-1.0)
    assert other.kendall == -1.0


def test_a_short_list_of_names_is_compared_at_its_own_length() -> None:
    found = HeadList(SHAPE, {HEADS[1]: (), HEADS[9]: ()})
    result = agree(OURS, found, k_frac=0.5)
    assert (result.size, result.num_listed, result.num_shared, result.num_both) == (2, 2, 1, 2)
    assert result.jaccard == pytest.approx(1 / 3)
    assert result.num_expected == pytest.approx(4 / 20)
    assert result.spearman is None and result.kendall is None  # two heads are no correlation


def test_a_head_without_a_mean_is_not_ranked_last_but_left_out() -> None:
    without: dict[HeadId, float | None] = {**OURS, HEADS[0]: None}
    result = agree(without, from_means(OURS, SHAPE), k_frac=0.05)
    assert (result.num_both, result.num_shared) == (19, 0)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=8))
def test_kendall_is_the_count_of_pairs(pairs: list[tuple[int, int]]) -> None:
    both = list(itertools.combinations(pairs, 2))
    orders = [(np.sign(a[0] - b[0]), np.sign(a[1] - b[1])) for a, b in both]
    scale = np.sqrt(sum(x != 0 for x, _ in orders) * sum(y != 0 for _, y in orders))
    expected = sum(x * y for x, y in orders) / scale if scale else None
    found = kendall(*(np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True)))
    assert found == (None if expected is None else pytest.approx(expected))


def test_rank_biased_overlap_counts_the_first_most() -> None:
    a, b, c, d = HEADS[:4]
    early, late = rank_biased_overlap([a, b, c], [a, d, HEADS[5]]), rank_biased_overlap([a, b, c], [d, HEADS[5], a])
    assert early is not None and late is not None and early > late > 0.0
    assert rank_biased_overlap([], []) is None
    p = 2 / 3  # by hand: shared prefixes 1, 1/2, 1/3
    expected = p**3 / 3 + (1 - p) / p * (p + p**2 / 2 + p**3 / 3)
    assert early == pytest.approx(expected)
