from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from rampipe.engine.prefetch import prefetch


def test_results_come_in_order_and_all_of_them() -> None:
    assert list(prefetch(iter(range(50)), lambda item: item * item, num_threads=4, num_ahead=6)) == [
        item * item for item in range(50)
    ]
    assert list(prefetch(iter(()), str, num_threads=2, num_ahead=3)) == []


def test_it_works_ahead_but_not_further_than_the_bound() -> None:
    started = threading.Semaphore(0)
    num_read = 0

    def items() -> Iterator[int]:
        nonlocal num_read
        for item in range(100):
            num_read += 1
            yield item

    def work(item: int) -> int:
        started.release()
        return item

    results = prefetch(items(), work, num_threads=2, num_ahead=5)
    assert next(results) == 0
    for _ in range(5):
        assert started.acquire(timeout=10), "nothing is prepared before it is asked for"
    assert num_read <= 6
    results.close()
    assert num_read <= 6


def test_an_error_is_raised_where_its_result_is_taken() -> None:
    results = prefetch(iter([1, 0, 2]), lambda item: 1 // item, num_threads=1, num_ahead=3)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_error_of_the_reader_is_not_the_end() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("disk")

    results = prefetch(items(), str, num_threads=1, num_ahead=3)
    assert next(results) == "1"
    with pytest.raises(OSError, match="disk"):
        list(results)
