from __future__ import annotations

import math

from rampipe.engine.durations import Durations


def durations(*seconds: float) -> Durations:
    made = Durations()
    for value in seconds:
        made.add(value)
    return made


def test_nothing_done_is_unknown_and_not_zero() -> None:
    assert durations().quantile_s(0.5) is None
    assert durations().straggler_s(min_straggler_s=1.0) == math.inf
    assert durations().deadline_s(min_deadline_s=60.0, first_deadline_s=600.0) == 600


def test_quantiles_are_nearest_ranks_in_any_order_of_arrival() -> None:
    made = durations(*(float(value) for value in range(100, 0, -1)))
    assert (made.quantile_s(0.5), made.quantile_s(0.95)) == (50, 95)


def test_deadline_and_straggler_limits() -> None:
    made = durations(10.0, 20.0, 100.0)
    assert made.deadline_s(min_deadline_s=60.0, first_deadline_s=600.0) == 500
    assert made.straggler_s(min_straggler_s=1.0) == 40
    assert durations(0.1).deadline_s(min_deadline_s=60.0, first_deadline_s=600.0) == 60
    assert durations(0.1).straggler_s(min_straggler_s=1.0) == 1
