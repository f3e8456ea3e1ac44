"""Size of the top set, ties, and the three classes."""

from __future__ import annotations

import numpy as np
import pytest

from rampipe.heads.classes import head_class, jaccard, num_core, rank_order, top_heads, top_sets


@pytest.mark.parametrize(
    ("k_frac", "num_heads", "expected"),
    [
        (0.05, 96, 5),  # 4.8
        (0.05, 784, 39),  # 39.2
        (0.05, 50, 3),  # 2.5 rounds up, not to even
        (0.05, 30, 2),  # 1.5
        (0.145, 100, 15),  # 14.5, in floats 14.499999999999998
        (0.001, 96, 1),  # never none
        (1.0, 96, 96),
    ],
)
def test_num_core(k_frac: float, num_heads: int, expected: int) -> None:
    assert num_core(k_frac, num_heads) == expected


def test_ties_go_to_the_lower_head_and_undefined_last() -> None:
    means = np.array([np.nan, 0.2, 0.5, 0.2, 0.5])
    assert rank_order(means).tolist() == [2, 4, 1, 3, 0]
    assert rank_order(np.tile([0.5, 0.2], 100)).tolist() == [*range(0, 200, 2), *range(1, 200, 2)]
    assert top_heads(means, 3) == {1, 2, 4}
    assert top_heads(means, 5) == {1, 2, 3, 4}
    np.testing.assert_array_equal(top_sets(means[None, :], 5), [[0, 1, 1, 1, 1]])


def test_classes() -> None:
    assert head_class(2, 0.9, size=2) == "core"
    assert head_class(3, 0.51, size=2) == "contextual"
    assert head_class(3, 0.5, size=2) == "other"
    assert head_class(None, 0.9, size=2) is None
    assert head_class(3, None, size=2) is None
    assert head_class(2, None, size=2) == "core"


def test_jaccard() -> None:
    assert jaccard({1, 2}, {2, 3}) == pytest.approx(1 / 3)
    assert jaccard({1}, {1}) == 1.0
    assert jaccard(set(), set()) is None
