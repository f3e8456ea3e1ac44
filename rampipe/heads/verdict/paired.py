"""Tests on pairs: the same sample with and without an intervention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist


def wilson(num_correct: int, num_samples: int, *, confidence: float) -> tuple[float, float] | None:
    """Wilson's score interval of a share, [0, 1]; null for a share of nothing.

    Unlike the normal interval it never leaves [0, 1] and has a width at 0 and at 1. Source: Wilson (1927).
    """
    if num_samples == 0:
        return None
    z = NormalDist().inv_cdf((1.0 + confidence) / 2.0)
    share = num_correct / num_samples
    weight = z * z / num_samples
    centre = (share + weight / 2.0) / (1.0 + weight)
    half = z * math.sqrt(share * (1.0 - share) / num_samples + weight / (4.0 * num_samples)) / (1.0 + weight)
    # At 0 and at num_samples the ends are exact, and rounding would put them beside the share.
    low = 0.0 if num_correct == 0 else max(0.0, centre - half)
    return low, 1.0 if num_correct == num_samples else min(1.0, centre + half)


def mcnemar(num_lost: int, num_gained: int) -> float:
    """Exact two-sided p-value that losses and gains are equally likely; 1 when there are none.

    Integers of any size, so no p-value is wrong by cancellation; under 1e-308 it is 0.
    Source: McNemar (1947), in its exact binomial form.
    """
    num_changed = num_lost + num_gained
    term = total = 1
    for place in range(1, min(num_lost, num_gained) + 1):
        term = term * (num_changed - place + 1) // place
        total += term
    return min(1.0, total / (1 << (num_changed - 1))) if num_changed else 1.0


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction over all that are not null, in their order. Source: Holm (1979)."""
    known = sorted((value, place) for place, value in enumerate(p_values) if value is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for smaller, (value, place) in enumerate(known):
        largest = max(largest, min(1.0, value * (len(known) - smaller)))
        corrected[place] = largest
    return corrected
