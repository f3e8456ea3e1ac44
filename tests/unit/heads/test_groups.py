"""Query heads and their kv_heads."""

from __future__ import annotations

import numpy as np
import pytest

from rampipe.errors import ConfigError
from rampipe.heads.groups import HeadGrid
from rampipe.types import HeadId
from tests.unit.heads.made_ranking import ranked

HEADS = [HeadId(layer, head) for layer in range(2) for head in range(8)]


def test_a_scattered_set_of_query_heads_keeps_more_of_the_kv_heads() -> None:
    grid = HeadGrid(HEADS, kv_heads=2)
    scattered, grouped = [HeadId(0, 0), HeadId(0, 4), HeadId(1, 3)], [HeadId(0, 0), HeadId(0, 1), HeadId(0, 3)]
    assert grid.kv_head_frac(scattered) == 3 / 4
    assert grid.kv_head_frac(grouped) == 1 / 4  # twin: as many heads, of one group
    assert grid.kv_head_frac([]) == 0.0
    assert HeadGrid(HEADS, kv_heads=None).kv_head_frac(scattered) is None


@pytest.mark.parametrize("kv_heads", [0, 3, 16])
def test_kv_heads_must_divide_the_query_heads(kv_heads: int) -> None:
    with pytest.raises(ConfigError, match=rf"kv_heads = {kv_heads}: layer 0 has 8 query heads"):
        HeadGrid(HEADS, kv_heads=kv_heads)


def test_kv_heads_are_not_guessed() -> None:
    with pytest.raises(ConfigError, match="number of kv_heads is unknown"):
        HeadGrid(HEADS, kv_heads=None).groups("kv_head")


def test_groups_are_ranked_by_the_mean_of_their_heads() -> None:
    means = np.array([[9.0, 1.0, 4.0, 5.0], [6.0, 6.0, 7.0, 0.0]])
    single, grouped = ranked(means), ranked(means, per="kv_head", kv_heads=2)
    assert [str(group) for group in single.ordered] == ["0.0", "1.2", "1.0", "1.1", "0.3", "0.2", "0.1", "1.3"]
    assert [str(group) for group in grouped.ordered] == ["1.0", "0.0", "0.1", "1.1"]  # 6, 5, 4.5, 3.5
    assert grouped.ordered[1].heads == (HeadId(0, 0), HeadId(0, 1))
    assert grouped.shares == pytest.approx([12 / 38, 10 / 38, 9 / 38, 7 / 38])


def test_a_group_with_an_unknown_head_has_no_rank() -> None:
    means = np.array([[9.0, np.nan, 4.0, 5.0]])
    grouped = ranked(means, per="kv_head", kv_heads=2)
    assert [str(group) for group in grouped.ordered] == ["0.1"]
    assert grouped.num_groups == 2
    assert ranked(means).num_groups == 4


def test_shares_are_null_without_a_positive_mass() -> None:
    assert ranked(np.array([[-1.0, -2.0]])).shares is None
