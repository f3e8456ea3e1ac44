"""Statistics of pairs against published and independently computed values."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rampipe.heads.verdict.paired import holm, mcnemar, wilson
from rampipe.heads.verdict.resample import Resampling, difference_intervals


@pytest.mark.parametrize(
    ("num_correct", "num_samples", "expected"),
    [
        (81, 263, (0.2553, 0.3662)),  # Newcombe (1998), Statistics in Medicine 17:857, table I, method 3
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_is_as_published(num_correct: int, num_samples: int, expected: tuple[float, float]) -> None:
    assert wilson(num_correct, num_samples, confidence=0.95) == pytest.approx(expected, abs=5e-5)


@given(num_samples=st.integers(1, 500), data=st.data())
def test_wilson_holds_its_share_and_mirrors(num_samples: int, data: st.DataObject) -> None:
    num_correct = data.draw(st.integers(0, num_samples))
    interval = wilson(num_correct, num_samples, confidence=0.95)
    mirrored = wilson(num_samples - num_correct, num_samples, confidence=0.95)
    wider = wilson(num_correct, num_samples, confidence=0.99)
    assert interval and mirrored and wider
    assert 0.0 <= interval[0] <= num_correct / num_samples <= interval[1] <= 1.0
    assert interval == pytest.approx((1.0 - mirrored[1], 1.0 - mirrored[0]))
    assert wider[1] - wider[0] > interval[1] - interval[0] > 0.0


def test_a_share_of_nothing_has_no_interval() -> None:
    assert wilson(0, 0, confidence=0.95) is None


@pytest.mark.parametrize(
    ("lost", "gained", "expected"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 0.0625),  # 2 / 2**5
        (6, 0, 0.03125),
        (10, 0, 2 / 1024),
        (9, 1, 22 / 1024),
        (8, 2, 112 / 1024),
        (5, 5, 1.0),
        (12, 4, 2 * (1 + 16 + 120 + 560 + 1820) / 2**16),
    ],
)
def test_mcnemar_is_the_exact_binomial(lost: int, gained: int, expected: float) -> None:
    assert mcnemar(lost, gained) == pytest.approx(expected, rel=1e-15)
    assert mcnemar(gained, lost) == mcnemar(lost, gained)


def test_mcnemar_stays_exact_where_floats_would_not() -> None:
    assert mcnemar(3000, 2800) == pytest.approx(0.00896, abs=2e-5)  # normal approximation with continuity: 0.00897
    assert mcnemar(500, 0) == pytest.approx(2.0**-499)
    assert mcnemar(5000, 0) == 0.0


def test_holm_is_as_worked_out_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.03]) == [0.02, None, 0.03]
    assert holm([None]) == [None]
    assert holm([]) == []


@given(p_values=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_holm_is_monotone_and_between_nothing_and_bonferroni(p_values: list[float]) -> None:
    corrected = holm(p_values)
    pairs = [(value, found) for value, found in zip(p_values, corrected, strict=True) if found is not None]
    assert len(pairs) == len(p_values)
    assert all(value <= found <= min(1.0, value * len(p_values)) for value, found in pairs)
    ordered = [found for _, found in sorted(pairs)]
    assert all(first <= second for first, second in pairwise(ordered))


DRAWS = Resampling(num_draws=400, confidence=0.95, seed=0)


def test_the_interval_is_wider_when_samples_share_contexts() -> None:
    once = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], size=(40, 1))
    repeated = np.repeat(once, 9, axis=0)
    single = [f"{index:04d}" for index in range(len(repeated))]
    shared = [f"{index // 9:04d}" for index in range(len(repeated))]
    wide, narrow = (difference_intervals(repeated, keys, DRAWS) for keys in (shared, single))
    original = difference_intervals(once, [f"{index:04d}" for index in range(40)], DRAWS)
    ratio = np.ptp(wide) / np.ptp(narrow)
    assert 2.5 < ratio < 3.5  # sqrt(9) for nine copies of each sample
    np.testing.assert_allclose(wide, original)  # copies add no information


def test_the_interval_covers_the_mean_and_ignores_absent_pairs() -> None:
    values = np.random.default_rng(1).choice([-1.0, 0.0], size=(60, 2), p=[0.3, 0.7])
    keys = [f"{index:04d}" for index in range(60)]
    low, high = difference_intervals(values, keys, DRAWS)
    assert (low < values.mean(axis=0)).all()
    assert (values.mean(axis=0) < high).all()
    padded = np.vstack([values, np.full((5, 2), np.nan)])
    np.testing.assert_array_equal(difference_intervals(padded, [*keys, *"vwxyz"], DRAWS), [low, high])
    zeroed = np.nan_to_num(padded)  # twin: missing is not zero
    assert not np.allclose(difference_intervals(zeroed, [*keys, *"vwxyz"], DRAWS), [low, high])


def test_one_context_or_none_has_no_interval() -> None:
    assert np.isnan(difference_intervals(np.zeros((3, 2)), ["a", "a", "a"], DRAWS)).all()
    assert np.isnan(difference_intervals(np.zeros((0, 2)), [], DRAWS)).all()
    half = np.array([[0.0, np.nan], [1.0, 1.0]])
    assert np.isnan(difference_intervals(half, ["a", "b"], DRAWS)).all(axis=0).tolist() == [False, True]
