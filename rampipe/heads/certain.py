"""Which heads are certainly in the top set, however often one looks: intervals that hold at all times at once.

For each head the mean of independent items in [0, 1] is bounded by the predictable plug-in empirical-Bernstein
confidence sequence of Waudby-Smith & Ramdas (2024, theorem 2; arXiv 2010.09686), whose width follows the variance that
is seen. The level is shared between the heads (union bound), so one may look after every item, at every head, and stop
when one likes what one sees: the chance that any interval ever misses its mean is at most 1 - level. An interval for a
number of items that was fixed before would not do: looked at again and again, it misses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

_MAX_BET = 0.75
"""Bound of the weights, below 1. 0.5 gives intervals a sixth narrower for values of large variance, and a third wider
for the small masses that most heads have."""


class ConfidenceSequence:
    """Bounds of each head's mean that hold at all times together with probability `level` or more.

    num_items: of a finite population that is drawn in random order without replacement, its size; then the mean is the
    population's, and bounds close when all of it was seen (conditional means as in Waudby-Smith & Ramdas 2020, arXiv
    2006.04347). None: items are independent draws, and the mean is that of their distribution.
    """

    def __init__(self, num_heads: int, *, level: float, num_items: int | None = None) -> None:
        self.low: Float64[np.ndarray, " head"] = np.zeros(num_heads)
        self.high: Float64[np.ndarray, " head"] = np.ones(num_heads)
        self.num_seen = 0
        self._num_items = num_items
        self._doubt = math.log(2.0 * num_heads / (1.0 - level))
        self._sum, self._squares = np.zeros(num_heads), np.zeros(num_heads)
        self._weighted, self._weights, self._spread = np.zeros(num_heads), np.zeros(num_heads), np.zeros(num_heads)

    @property
    def means(self) -> Float64[np.ndarray, " head"]:
        """Plain means of what was seen; NaN before the first item."""
        return self._sum / self.num_seen if self.num_seen else np.full_like(self._sum, np.nan)

    def add(self, item: Float64[np.ndarray, " head"]) -> None:
        """Take in one item, values in [0, 1]: weights and centre may only depend on the items before it."""
        before, self.num_seen = self.num_seen, self.num_seen + 1
        centre = (0.5 + self._sum) / self.num_seen
        variance = (0.25 + self._squares) / self.num_seen
        pace = variance * self.num_seen * math.log1p(self.num_seen)
        weight = np.minimum(np.sqrt(2.0 * self._doubt / pace), _MAX_BET)
        shift, share = 0.0, 1.0
        if self._num_items is not None:
            left = self._num_items - before
            shift, share = self._sum / left, self._num_items / left
        self._weighted += weight * (item + shift)
        self._weights += weight * share
        self._spread += (item - centre) ** 2 * (-np.log1p(-weight) - weight)
        self._sum += item
        self._squares += (item - (0.5 + self._sum) / (self.num_seen + 1)) ** 2
        found, width = self._weighted / self._weights, (self._doubt + self._spread) / self._weights
        self.low = np.maximum(self.low, found - width)
        self.high = np.minimum(self.high, found + width)
        if self.num_seen == self._num_items:
            self.low = self.high = self.means


@dataclass(frozen=True, slots=True)
class Membership:
    """What is certain about the top set of `size` heads. chosen: the highest means so far.

    inside, outside: certain members and certain others, whatever the means are within their bounds; neither: undecided.
    excess: no head that is left out is certain to be less than this above a chosen one, as a share of the lowest bound
    of the chosen; 0 or less: the set itself is certain. Infinite when that bound is not above 0.
    """

    chosen: Bool[np.ndarray, " head"]
    inside: Bool[np.ndarray, " head"]
    outside: Bool[np.ndarray, " head"]
    excess: float

    def is_certain(self, tolerance_frac: float) -> bool:
        """Whether no head left out has a mean more than this share above that of a chosen one."""
        return self.excess <= tolerance_frac


def certain_members(
    low: Float64[np.ndarray, " head"],
    high: Float64[np.ndarray, " head"],
    means: Float64[np.ndarray, " head"],
    *,
    size: int,
) -> Membership:
    """Membership in the top set, from bounds that hold together. means: order the heads, ties by index."""
    order = np.argsort(-means, kind="stable")
    chosen = np.zeros(len(means), dtype=np.bool_)
    chosen[order[:size]] = True
    if chosen.all():
        return Membership(chosen, chosen, ~chosen, excess=-math.inf)
    may_beat = len(high) - np.searchsorted(np.sort(high), low, side="right") - (high > low)
    must_beat = len(low) - np.searchsorted(np.sort(low), high, side="right")
    lowest, highest = float(low[chosen].min()), float(high[~chosen].max())
    if highest <= lowest:
        excess = -0.0 if highest == lowest else -(lowest - highest) / lowest
    else:
        excess = (highest - lowest) / lowest if lowest > 0 else math.inf
    return Membership(chosen, may_beat < size, must_beat >= size, excess)
