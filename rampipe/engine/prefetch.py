"""Work ahead in background threads, in order, with a bound: rows are prepared while the device computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(
    items: Iterator[Item], function: Callable[[Item], Result], *, num_threads: int, num_ahead: int
) -> Generator[Result]:
    """`function` of each item, in order; at most `num_ahead` results exist that were not taken yet.

    One thread reads `items`, `num_threads` call `function`. An error of either is raised where its result is taken.
    """
    reader, workers = ThreadPoolExecutor(1), ThreadPoolExecutor(num_threads)
    pending = deque[Future[list[Result]]]()

    def submit() -> None:
        read = reader.submit(_next, items)
        pending.append(workers.submit(lambda: [function(item) for item in read.result()]))

    try:
        for _ in range(num_ahead):
            submit()
        while results := pending.popleft().result():
            submit()
            yield from results
    finally:
        for future in pending:
            future.cancel()
        reader.shutdown(cancel_futures=True)
        workers.shutdown(cancel_futures=True)


def _next(items: Iterator[Item]) -> list[Item]:
    """The next item, or nothing at the end: StopIteration cannot leave a future."""
    for item in items:
        return [item]
    return []
