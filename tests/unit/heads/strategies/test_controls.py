"""Random controls: disjoint from the target, of its size, layer-matched, and the same everywhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rampipe.heads.groups import HeadGroup
from rampipe.heads.strategies import layer_matched_random, random, top
from rampipe.heads.strategies.draw import draw
from rampipe.heads.strategies.strategy import Refused, Request
from tests.unit.heads.made_ranking import random_means, ranked

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 12), st.integers(0, 50))
FRACS = st.sampled_from([0.01, 0.05, 0.1, 0.2, 0.4, 0.5, 0.7, 1.0])
SEEDS = st.integers(0, 9)


def request_for(shape: tuple[int, int, int], frac: float, seed: int) -> Request:
    groups = ranked(random_means(num_layers=shape[0], num_heads=shape[1], seed=shape[2]))
    target = top.choose(Request(groups, frac=frac))
    assert not isinstance(target, Refused)
    return Request(groups, frac=frac, target=target, seed=seed)


def layers(groups: tuple[HeadGroup, ...]) -> Counter[int]:
    return Counter(group.layer for group in groups)


@settings(max_examples=40)
@given(shape=SHAPES, frac=FRACS, seed=SEEDS)
def test_a_control_is_disjoint_and_of_the_same_size_or_refused(
    shape: tuple[int, int, int], frac: float, seed: int
) -> None:
    request = request_for(shape, frac, seed)
    total = layers(request.ranked.ordered)
    for strategy in (random, layer_matched_random):
        chosen = strategy.choose(request)
        if isinstance(chosen, Refused):
            needed = layers(request.target) if strategy is layer_matched_random else Counter({0: len(request.target)})
            there = total if strategy is layer_matched_random else Counter({0: len(request.ranked.ordered)})
            assert any(2 * size > there[layer] for layer, size in needed.items())
            continue
        assert not set(chosen) & set(request.target)
        assert len(set(chosen)) == len(chosen) == len(request.target)
        assert set(chosen) <= set(request.ranked.ordered)
        if strategy is layer_matched_random:
            assert layers(chosen) == layers(request.target)


def test_plain_random_is_not_layer_matched() -> None:
    """Twin: the histogram that the matched draw must have is not one that any draw has."""
    request = request_for((6, 16, 0), 0.2, 0)
    found = [random.choose(replace(request, seed=seed)) for seed in range(5)]
    assert all(layers(chosen) != layers(request.target) for chosen in found if not isinstance(chosen, Refused))


def test_a_draw_without_a_target_would_overlap_it() -> None:
    """Twin: five draws from all heads do meet a top fifth."""
    request = request_for((6, 16, 0), 0.2, 0)
    drawn = [set(draw(request.ranked.ordered, len(request.target), label=f"random/{seed}")) for seed in range(5)]
    assert any(chosen & set(request.target) for chosen in drawn)


@settings(max_examples=15)
@given(shape=SHAPES, frac=FRACS, seed=SEEDS)
def test_a_seed_means_the_same_draw_anywhere(shape: tuple[int, int, int], frac: float, seed: int) -> None:
    for strategy in (random, layer_matched_random):
        first, again = (strategy.choose(request_for(shape, frac, seed)) for _ in range(2))
        assert first == again


def test_another_seed_is_another_draw() -> None:
    """Of millions of possible draws; where few are possible, seeds may meet, and the plan then keeps one."""
    request = request_for((6, 16, 0), 0.2, 0)
    for strategy in (random, layer_matched_random):
        chosen = [strategy.choose(replace(request, seed=seed)) for seed in range(20)]
        assert not any(isinstance(found, Refused) for found in chosen)
        assert len({frozenset(found) for found in chosen if not isinstance(found, Refused)}) == 20


def test_draws_do_not_depend_on_the_order_of_the_ranking() -> None:
    request = request_for((5, 8, 1), 0.1, 3)
    backward = replace(request.ranked, ordered=tuple(reversed(request.ranked.ordered)))
    for strategy in (random, layer_matched_random):
        assert strategy.choose(request) == strategy.choose(replace(request, ranked=backward))


def test_draws_are_pinned() -> None:
    """Published arms stay what they were: a change of the draw shows here."""
    request = request_for((4, 8, 0), 0.1, 0)
    chosen = random.choose(request)
    assert not isinstance(chosen, Refused)
    assert sorted(str(group) for group in chosen) == ["0.7", "1.4", "3.7"]


def test_every_head_is_drawn_about_equally_often() -> None:
    request = request_for((4, 8, 0), 0.25, 0)
    drawn = Counter[HeadGroup]()
    for seed in range(600):
        chosen = random.choose(replace(request, seed=seed))
        assert not isinstance(chosen, Refused)
        drawn.update(chosen)
    counts = np.array([drawn[group] for group in request.ranked.ordered if group not in request.target])
    assert len(counts) == 24  # of which 8 are drawn: 200 times each, standard deviation 11.5
    assert counts.min() > 200 - 5 * 11.5
    assert counts.max() < 200 + 5 * 11.5


def test_a_full_layer_is_refused_by_name() -> None:
    means = np.array([[9.0, 8.0, 7.0, 0.1], [0.2, 0.3, 0.4, 0.5]])
    groups = ranked(means)
    request = Request(groups, target=groups.ordered[:3], seed=0)
    found = layer_matched_random.choose(request)
    assert found == Refused("layer 0 has 3 in the controlled arm, but 1 ranked ones are left outside it")
    assert not isinstance(random.choose(request), Refused)  # twin: without the layers there are enough
