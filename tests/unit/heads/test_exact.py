"""Sums are exact after rounding to the grid, so their order cannot matter."""

from __future__ import annotations

import numpy as np
import pytest

from rampipe.heads.exact import exact_step, rounded


def sums_in_random_orders(values: np.ndarray, *, num_orders: int = 50) -> set[float]:
    rng = np.random.default_rng(1)
    return {float(np.cumsum(rng.permutation(values))[-1]) for _ in range(num_orders)}


@pytest.mark.parametrize("largest", [1e-6, 1.0, 150_000.0])
def test_every_order_gives_the_same_sum(largest: float) -> None:
    values = np.random.default_rng(0).random((2000, 1)) ** 4 * largest
    on_grid = rounded(values, exact_step(largest, 2000))
    assert len(sums_in_random_orders(on_grid[:, 0])) == 1
    assert len(sums_in_random_orders(values[:, 0])) > 1  # twin: floats do depend on the order
    assert np.abs(on_grid - values).max() <= largest * 1e-11


def test_weights_of_a_resample_stay_exact() -> None:
    values = rounded(np.random.default_rng(0).standard_normal((3000, 4)), exact_step(8.0, 3000))
    weights = np.random.default_rng(1).poisson(1.0, size=(20, 3000)).astype(np.float64)
    order = np.random.default_rng(2).permutation(3000)
    assert (weights @ values).tobytes() == (weights[:, order] @ values[order]).tobytes()


def test_values_on_the_grid_stay_what_they_are() -> None:
    values = np.array([[np.nan, 0.0], [0.25, -1.0]])
    np.testing.assert_array_equal(rounded(values, exact_step(1.0, 4)), values)
    step = exact_step(1.0, 4)
    assert rounded(np.array([step * 0.4, step * 0.6]), step).tolist() == [0.0, step]
