"""Strategies that choose by the ranking itself."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from rampipe.errors import ConfigError
from rampipe.heads.classes import num_core
from rampipe.heads.strategies import band, bottom, bottom_idle, cumulative_mass, from_list, top
from rampipe.heads.strategies.strategy import Refused, Request, Strategy, count_of
from rampipe.types import HeadId
from tests.unit.heads.made_ranking import random_means, ranked

MEANS = np.array([[0.4, 0.1, 0.0, 0.2], [0.15, -0.3, 0.1, 0.05]])  # positive mass 1
GROUPS = ranked(MEANS)


def names(strategy: Strategy, request: Request) -> list[str]:
    chosen = strategy.choose(request)
    assert not isinstance(chosen, Refused), chosen
    return [str(group) for group in chosen]


def test_top_and_bottom_are_the_two_ends() -> None:
    assert names(top, Request(GROUPS, frac=0.25)) == ["0.0", "0.3"]
    assert names(bottom, Request(GROUPS, frac=0.25)) == ["0.2", "1.1"]
    assert names(top, Request(GROUPS, frac=1.0)) == names(bottom, Request(GROUPS, frac=1.0))
    assert names(top, Request(GROUPS, frac=0.0)) == []


@pytest.mark.parametrize("frac", [0.01, 0.05, 0.145, 0.5, 1.0])
def test_top_is_as_large_as_the_core_heads(frac: float) -> None:
    groups = ranked(random_means())
    assert len(names(top, Request(groups, frac=frac))) == num_core(frac, 96) == count_of(frac, 96)
    assert count_of(0.0, 96) == 0


def test_bands_that_meet_neither_overlap_nor_leave_a_gap() -> None:
    groups = ranked(random_means())
    edges = [0.0, 0.05, 0.15, 0.4, 1.0]
    cut = [names(band, Request(groups, start_frac=low, frac=round(high - low, 12))) for low, high in pairwise(edges)]
    assert [name for part in cut for name in part] == [str(group) for group in groups.ordered]
    assert cut[0] == names(top, Request(groups, frac=0.05))


def test_a_band_without_a_rank_is_refused() -> None:
    assert band.choose(Request(GROUPS, start_frac=0.51, frac=0.01)) == Refused("no rank lies in 0.51 to 0.52 of 8")


@pytest.mark.parametrize(("frac", "expected"), [(0.4, 1), (0.41, 2), (0.5, 2), (0.75, 3), (1.0, 6), (0.0, 0)])
def test_cumulative_mass_is_the_fewest_heads(frac: float, expected: int) -> None:
    found = names(cumulative_mass, Request(GROUPS, frac=frac))
    assert found == [str(group) for group in GROUPS.ordered[:expected]]


def test_no_positive_mass_is_refused() -> None:
    negative = ranked(-1.0 - random_means())
    assert cumulative_mass.choose(Request(negative, frac=0.5)) == Refused("no head has a positive mean")


def test_a_list_is_taken_as_it_is_and_unknown_heads_are_refused() -> None:
    listed = (HeadId(1, 1), HeadId(0, 1))
    assert sorted(names(from_list, Request(GROUPS, listed=listed))) == ["0.1", "1.1"]
    with pytest.raises(ConfigError, match=r"1 of 3 listed heads .* first 7\.0"):
        from_list.choose(Request(GROUPS, listed=(*listed, HeadId(7, 0))))


def test_per_kv_head_a_listed_head_takes_its_group() -> None:
    grouped = ranked(MEANS, per="kv_head", kv_heads=2)
    chosen = from_list.choose(Request(grouped, listed=(HeadId(1, 1),)))
    assert not isinstance(chosen, Refused)
    assert [group.heads for group in chosen] == [(HeadId(1, 0), HeadId(1, 1))]


def test_the_lowest_idle_heads_pass_over_needed_ones_and_are_never_fewer() -> None:
    assert names(bottom, Request(GROUPS, frac=0.25)) == ["0.2", "1.1"]
    idle = frozenset({HeadId(0, 1), HeadId(1, 3), HeadId(0, 2)})
    assert names(bottom_idle, Request(GROUPS, frac=0.25, idle=idle)) == ["1.3", "0.2"]
    assert bottom_idle.choose(Request(GROUPS, frac=0.5, idle=idle)) == Refused(
        "4 asked for, the screen found 3 that the control does not need"
    )
    assert bottom_idle.choose(Request(GROUPS, frac=0.25)) == Refused(
        "which heads the control does not need was not screened"
    )
    grouped = ranked(MEANS, per="kv_head", kv_heads=2)  # a kv_head is idle when all its heads are
    assert names(bottom_idle, Request(grouped, frac=0.25, idle=idle | {HeadId(1, 2)})) == ["1.1"]
    assert isinstance(bottom_idle.choose(Request(grouped, frac=0.25, idle=idle)), Refused)


@pytest.mark.parametrize("strategy", [top, bottom], ids=lambda strategy: strategy.ID)
def test_heads_without_a_mean_are_never_chosen(strategy: Strategy) -> None:
    means = MEANS.copy()
    means[0, 0] = np.nan
    groups = ranked(means)
    assert "0.0" not in names(strategy, Request(groups, frac=7 / 8))
    assert strategy.choose(Request(groups, frac=1.0)) == Refused("8 of 8 asked for, 7 have a mean")
