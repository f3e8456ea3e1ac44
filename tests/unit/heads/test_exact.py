"""Sums are exact after rounding to the grid, so their order cannot matter."""

from __future__ import annotations

import numpy as np
import pytest

from rampipe.heads.exact import round_to_exact_grid


def sums_in_random_orders(values: np.ndarray, *, num_orders: int = 50) -> set[float]:
    rng = np.random.default_rng(1)
    return {float(np.cumsum(rng.permutation(values))[-1]) for _ in range(num_orders)}


@pytest.mark.parametrize("largest", [1e-6, 1.0, 150_000.0])
def test_every_order_gives_the_same_sum(largest: float) -> None:
    values = np.random.default_rng(0).random((2000, 1)) ** 4 * largest
    rounded = values.copy()
    round_to_exact_grid(rounded)
    assert len(sums_in_random_orders(rounded[:, 0])) == 1
    assert len(sums_in_random_orders(values[:, 0])) > 1  # twin: floats do depend on the order
    assert np.abs(rounded - values).max() <= largest * 1e-11


def test_weights_of_a_resample_stay_exact() -> None:
    values = np.random.default_rng(0).standard_normal((3000, 4))
    round_to_exact_grid(values)
    weights = np.random.default_rng(1).poisson(1.0, size=(20, 3000)).astype(np.float64)
    order = np.random.default_rng(2).permutation(3000)
    assert (weights @ values).tobytes() == (weights[:, order] @ values[order]).tobytes()


def test_null_and_zero_stay_what_they_are() -> None:
    values = np.array([[np.nan, 0.0], [0.25, -1.0]])
    round_to_exact_grid(values)
    np.testing.assert_array_equal(values, [[np.nan, 0.0], [0.25, -1.0]])
    nothing = np.full((2, 2), np.nan)
    with np.errstate(all="raise"):
        round_to_exact_grid(nothing)
    assert np.isnan(nothing).all()
