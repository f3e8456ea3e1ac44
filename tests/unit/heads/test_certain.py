"""Bounds that hold at all times: on random data, looked at after every item."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rampipe.heads.certain import ConfidenceSequence, certain_members

LEVEL = 0.9
NUM_RUNS = 1000
"""Independent runs are columns; each gets the level of one head alone, so that misses can be counted."""


def watched(items: np.ndarray, *, num_items: int | None = None) -> tuple[ConfidenceSequence, np.ndarray, np.ndarray]:
    """After all items of [item, run]: the sequence, and the extreme bounds that were ever seen."""
    alone = 1.0 - (1.0 - LEVEL) * items.shape[1]  # the union bound divides by the number of columns
    sequence = ConfidenceSequence(items.shape[1], level=alone, num_items=num_items)
    for item in items:
        sequence.add(item)
    return sequence, sequence.low, sequence.high  # bounds only ever close: the last are the extreme ones


def miss_rate(low: np.ndarray, high: np.ndarray, mean: float | np.ndarray) -> float:
    return float(((low > mean) | (high < mean)).mean())


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 1.0), (1.0, 30.0), (3.0, 7.0)])
def test_looking_after_every_item_keeps_the_level(alpha: float, beta: float) -> None:
    items = np.random.default_rng(0).beta(alpha, beta, size=(500, NUM_RUNS))
    _, low, high = watched(items)
    assert miss_rate(low, high, alpha / (alpha + beta)) <= 1.0 - LEVEL
    assert (high - low).mean() < 0.25


def test_bernoulli_items_keep_the_level() -> None:
    """The widest values there are."""
    items = (np.random.default_rng(1).random((500, NUM_RUNS)) < 0.1).astype(np.float64)
    _, low, high = watched(items)
    assert miss_rate(low, high, 0.1) <= 1.0 - LEVEL


def test_intervals_for_a_fixed_number_miss_when_they_are_looked_at_again_and_again() -> None:
    """Twin: the usual intervals of the same level, on the same kind of data."""
    items = np.random.default_rng(0).beta(3.0, 7.0, size=(500, NUM_RUNS))
    count = np.arange(1, 501)[:, None]
    means = np.cumsum(items, axis=0) / count
    width = 1.645 * items.std() / np.sqrt(count)
    at_the_end = miss_rate(means[-1] - width[-1], means[-1] + width[-1], 0.3)
    ever = miss_rate((means - width).max(axis=0), (means + width).min(axis=0), 0.3)
    assert at_the_end < 0.14
    assert ever > 0.4


def test_a_finite_population_in_random_order_keeps_the_level_and_closes() -> None:
    rng = np.random.default_rng(2)
    population = np.concatenate([rng.beta(1.0, 30.0, 150), rng.beta(30.0, 10.0, 50)])
    items = np.stack([rng.permutation(population) for _ in range(NUM_RUNS)], axis=1)
    _, low, high = watched(items[:190], num_items=200)
    assert miss_rate(low, high, population.mean()) <= 1.0 - LEVEL
    _, unaware_low, unaware_high = watched(items[:190])
    assert (high - low).mean() < 0.6 * (unaware_high - unaware_low).mean()  # it knows how little is left
    whole, *_ = watched(items, num_items=200)
    assert np.allclose(whole.low, population.mean())
    assert np.array_equal(whole.low, whole.high)


def test_a_population_that_is_not_in_random_order_is_missed() -> None:
    """Twin: sorted data, as of a dataset with one domain after the other."""
    population = np.sort(np.random.default_rng(3).beta(0.5, 2.0, 400))
    items = np.repeat(population[:, None], 5, axis=1)
    _, low, high = watched(items[:200])
    assert miss_rate(low, high, float(population.mean())) == 1.0


def test_the_union_bound_covers_all_heads_together() -> None:
    rng = np.random.default_rng(4)
    num_missed = 0
    for _ in range(60):
        sequence = ConfidenceSequence(40, level=LEVEL)
        for item in rng.beta(0.3, 1.0, size=(120, 40)):
            sequence.add(item)
        num_missed += bool(miss_rate(sequence.low, sequence.high, 0.3 / 1.3))
    assert num_missed <= 6 + 3 * math.sqrt(60 * 0.1 * 0.9)


def test_members_by_their_bounds() -> None:
    low = np.array([0.50, 0.30, 0.28, 0.01])
    high = np.array([0.60, 0.40, 0.36, 0.10])
    found = certain_members(low, high, (low + high) / 2, size=2)
    assert found.chosen.tolist() == [True, True, False, False]
    assert found.inside.tolist() == [True, False, False, False]
    assert found.outside.tolist() == [False, False, False, True]
    assert found.excess == pytest.approx(0.2)
    assert not found.is_certain(0.0)
    assert found.is_certain(0.21)


def test_separated_bounds_are_certain() -> None:
    low, high = np.array([0.1, 0.5, 0.4]), np.array([0.3, 0.6, 0.45])
    found = certain_members(low, high, low, size=2)
    assert found.is_certain(0.0)
    assert found.inside.tolist() == found.chosen.tolist() == [False, True, True]
    assert found.outside.tolist() == [True, False, False]


@pytest.mark.parametrize("seed", range(20))
def test_certain_is_what_no_means_within_the_bounds_can_change(seed: int) -> None:
    rng = np.random.default_rng(seed)
    means = rng.random(7)
    low, high = means - rng.random(7) * 0.3, means + rng.random(7) * 0.3
    found = certain_members(low, high, means, size=3)
    corners = np.where(rng.random((4000, 7)) < 0.5, low, high)
    possible = np.zeros((len(corners), 7), dtype=np.bool_)
    np.put_along_axis(possible, np.argsort(-corners, axis=1)[:, :3], np.True_, axis=1)
    assert found.inside.tolist() == possible.all(axis=0).tolist()
    assert found.outside.tolist() == (~possible).all(axis=0).tolist()
    assert found.is_certain(0.0) == bool((possible == possible[0]).all())


def test_every_head_chosen_is_certain_before_any_item() -> None:
    sequence = ConfidenceSequence(3, level=LEVEL)
    assert certain_members(sequence.low, sequence.high, np.zeros(3), size=3).is_certain(0.0)
    assert not certain_members(sequence.low, sequence.high, np.zeros(3), size=2).is_certain(10.0)
