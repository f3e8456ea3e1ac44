"""Half of the mass, and Gini, on cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rampipe.heads.concentration import concentrate


def test_known_cases() -> None:
    equal = concentrate(np.full(10, 0.3))
    assert (equal.half_heads, equal.gini) == (5, pytest.approx(0.0, abs=1e-12))
    single = concentrate(np.array([0.0, 0.7, 0.0, 0.0]))
    assert (single.half_heads, single.gini) == (1, pytest.approx(0.75))
    mixed = concentrate(np.array([4.0, 3.0, 2.0, 1.0]))
    assert (mixed.half_heads, mixed.gini, mixed.positive) == (2, pytest.approx(0.25), 10.0)


def test_negative_means_hold_nothing() -> None:
    found = concentrate(np.array([-5.0, 1.0, np.nan]))
    assert (found.num_defined, found.positive, found.half_heads) == (2, 1.0, 1)


@pytest.mark.parametrize("means", [[-1.0, 0.0], [np.nan, np.nan], [0.0]])
def test_no_positive_mass_is_null(means: list[float]) -> None:
    found = concentrate(np.array(means))
    assert (found.half_heads, found.gini, found.positive) == (None, None, 0.0)


@given(st.lists(st.floats(0.001, 100.0), min_size=1, max_size=30))
def test_gini_is_the_mean_difference(means: list[float]) -> None:
    values = np.array(means)
    pairs = np.abs(values[:, None] - values[None, :]).mean()
    assert concentrate(values).gini == pytest.approx(pairs / (2 * values.mean()), abs=1e-9)
