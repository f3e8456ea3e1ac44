from __future__ import annotations

import pytest

from rampipe.engine.isolation import MAX_CONDEMNED, Isolation


def search(rows: range, killers: set[int]) -> tuple[Isolation, int]:
    isolation, num_probes = Isolation(rows, max_strikes=3), 0
    while not isolation.finished and not isolation.hopeless:
        probe = isolation.open_ranges[0]
        num_probes += 1
        if killers & set(probe):
            isolation.failed(probe, kind="died", cause="gone")
        else:
            isolation.survived(probe)
    return isolation, num_probes


@pytest.mark.parametrize("killers", [set(), {0}, {63}, {5, 6}, {0, 31, 32, 63}])
def test_exactly_the_killers_are_condemned(killers: set[int]) -> None:
    isolation, num_probes = search(range(100, 164), {100 + row for row in killers})
    assert {skipped.row - 100 for skipped in isolation.condemned} == killers
    assert num_probes <= 2 + len(killers) * 14


def test_one_failure_alone_does_not_condemn_a_row() -> None:
    isolation = Isolation(range(1), max_strikes=3)
    assert isolation.failed(range(1), kind="died", cause="preempted") == [range(1)]
    isolation.survived(range(1))
    assert isolation.finished
    assert isolation.condemned == ()


def test_a_machine_that_kills_everything_is_not_the_samples_fault() -> None:
    isolation, num_probes = search(range(4096), set(range(4096)))
    assert isolation.hopeless
    assert len(isolation.condemned) == MAX_CONDEMNED + 1
    assert num_probes < 100
