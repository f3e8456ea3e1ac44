"""How long units took, and what follows: when to lose patience and when to run a second copy."""

from __future__ import annotations

import bisect
import math


class Durations:
    """Seconds of the units that are done, kept sorted."""

    def __init__(self) -> None:
        self._sorted_s: list[float] = []

    def add(self, seconds: float) -> None:
        """Record one done unit."""
        bisect.insort(self._sorted_s, seconds)

    def quantile_s(self, frac: float) -> float | None:
        """Nearest-rank quantile; None while nothing is done."""
        if not self._sorted_s:
            return None
        rank = max(1, math.ceil(frac * len(self._sorted_s)))
        return self._sorted_s[rank - 1]

    def deadline_s(self, *, min_deadline_s: float, first_deadline_s: float) -> float:
        """`max(min_deadline_s, 5 x p95)`; while nothing is done, no p95 is known and `first_deadline_s` holds."""
        p95_s = self.quantile_s(0.95)
        if p95_s is None:
            return max(min_deadline_s, first_deadline_s)
        return max(min_deadline_s, 5.0 * p95_s)

    def straggler_s(self, *, min_straggler_s: float) -> float:
        """A unit that runs longer than `max(min_straggler_s, 2 x median)` deserves a copy; infinite while unknown."""
        median_s = self.quantile_s(0.5)
        return math.inf if median_s is None else max(min_straggler_s, 2.0 * median_s)
