"""Draws follow names and the seed; where a key stands in the list does not matter."""

from __future__ import annotations

import numpy as np

from rampipe.heads.draws import half_split, poisson_weights

KEYS = [f"context-{number}" for number in range(400)]


def test_poisson_weights_have_mean_and_variance_one() -> None:
    weights = poisson_weights(KEYS, range(1000), seed=0)
    assert abs(weights.mean() - 1.0) < 0.01
    assert abs(weights.var() - 1.0) < 0.02
    assert abs((weights == 0).mean() - np.exp(-1.0)) < 0.005
    correlations = np.corrcoef(weights[:, :60], rowvar=False) - np.eye(60)
    assert np.abs(correlations).max() < 0.2  # independent: about 4.5 standard errors of 1/sqrt(1000) over 1,770 pairs


def test_weights_follow_the_key_not_its_place() -> None:
    straight, reverse = poisson_weights(KEYS, range(5), seed=3), poisson_weights(KEYS[::-1], range(5), seed=3)
    np.testing.assert_array_equal(straight, reverse[:, ::-1])
    np.testing.assert_array_equal(poisson_weights(KEYS, range(3, 5), seed=3), straight[3:])
    np.testing.assert_array_equal(poisson_weights(KEYS[:7], range(5), seed=3), straight[:, :7])


def test_another_seed_is_another_draw() -> None:
    assert (poisson_weights(KEYS, range(5), seed=3) != poisson_weights(KEYS, range(5), seed=4)).mean() > 0.3


def test_halves_are_halves() -> None:
    for keys in (KEYS, KEYS[:7]):
        halves = half_split(keys, range(50), seed=0)
        assert set(halves.sum(axis=1)) == {float(len(keys) // 2)}
        assert set(np.unique(halves)) == {0.0, 1.0}
    assert abs(half_split(KEYS, range(500), seed=0).mean(axis=0) - 0.5).max() < 0.12
    np.testing.assert_array_equal(half_split(KEYS, range(5), seed=0), half_split(KEYS[::-1], range(5), seed=0)[:, ::-1])
