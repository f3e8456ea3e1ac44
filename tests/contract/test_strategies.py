"""Every strategy of the tuple: the same shape, and the same answer to the same question."""

from __future__ import annotations

from pathlib import Path

import pytest

import rampipe.heads.strategies as package
from rampipe.errors import ConfigError
from rampipe.heads.strategies import STRATEGIES, strategy_by_id
from rampipe.heads.strategies.strategy import Refused, Request, Strategy
from rampipe.types import HeadId
from tests.unit.heads.made_ranking import random_means, ranked

ALL = pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.ID)
SHARED_FILES = {"__init__", "strategy", "draw"}
GROUPS = ranked(random_means())
REQUEST = Request(
    GROUPS,
    frac=0.1,
    start_frac=0.1,
    listed=(HeadId(1, 2), HeadId(3, 4)),
    target=GROUPS.ordered[:10],
    seed=1,
    idle=frozenset(head for group in GROUPS.ordered[50:-3] for head in group.heads),
)


@ALL
def test_strategy_says_what_it_is(strategy: Strategy) -> None:
    assert isinstance(strategy, Strategy)
    assert strategy.MEANING
    assert strategy.LEVELS in ("fracs", "bands", "masses", "heads", "target")
    assert not (strategy.CONTROLLED and strategy.LEVELS == "target"), "a control of a control"
    assert strategy_by_id(strategy.ID) is strategy


@ALL
def test_a_choice_is_a_set_of_the_models_heads_and_repeats(strategy: Strategy) -> None:
    chosen = strategy.choose(REQUEST)
    assert not isinstance(chosen, Refused)
    assert 0 < len(set(chosen)) == len(chosen) < len(GROUPS.ordered)
    assert set(chosen) <= set(GROUPS.ordered)
    assert strategy.choose(REQUEST) == chosen


@ALL
def test_strategies_are_told_apart(strategy: Strategy) -> None:
    """Twin: no other strategy answers this question with the same heads, so none is a copy of another."""
    chosen = strategy.choose(REQUEST)
    others = [other.choose(REQUEST) for other in STRATEGIES if other is not strategy]
    assert not isinstance(chosen, Refused)
    assert all(set(other) != set(chosen) for other in others if not isinstance(other, Refused))


def test_each_file_is_one_strategy_of_the_tuple() -> None:
    files = {path.stem for path in Path(package.__file__).parent.glob("*.py")} - SHARED_FILES
    assert sorted(files) == sorted(strategy.ID for strategy in STRATEGIES)


def test_unknown_strategy_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'layer_matched'.*did you mean 'layer_matched_random'"):
        strategy_by_id("layer_matched")
    with pytest.raises(ConfigError, match=r"known: \['band'"):
        strategy_by_id("zzzzzz")
