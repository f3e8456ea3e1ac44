"""A replica's device: one unit at a time computes, and what it waits for is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Lock


class Turn:
    """One unit's time at the device, from the moment that the device was free for it."""

    def __init__(self, *, free_since_s: float, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._free_since_s = free_since_s
        self._ended_s: float | None = None
        self.forward_s = 0.0
        """Seconds of computing."""

    @property
    def seconds(self) -> float:
        """All that the unit cost the device: computing, and waiting for rows or for the driver."""
        return (self._clock() if self._ended_s is None else self._ended_s) - self._free_since_s

    @property
    def wait_s(self) -> float:
        """Seconds in which the device had nothing to compute."""
        return self.seconds - self.forward_s

    @contextmanager
    def forward(self) -> Generator[None]:
        """What runs in here is computing."""
        started_s = self._clock()
        try:
            yield
        finally:
            self.forward_s += self._clock() - started_s

    def end(self) -> float:
        """Stop counting. Returns the time at which the device is free again."""
        self._ended_s = self._clock()
        return self._ended_s


class Device:
    """Units that are at work on one replica at once take turns: one computes, others read, encode or commit."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._free_since_s: float | None = None

    @contextmanager
    def turn(self, *, arrived_s: float) -> Generator[Turn]:
        """Wait for the device and hold it. arrived_s: when the unit came, where no other one was before it."""
        with self._lock:
            turn = Turn(free_since_s=arrived_s if self._free_since_s is None else self._free_since_s, clock=self._clock)
            try:
                yield turn
            finally:
                self._free_since_s = turn.end()
