"""Numbers as the page writes them. What is absent is a dash, never 0."""

from __future__ import annotations

import math

ABSENT = "–"


def number(value: float | None) -> str:
    """About four significant digits: metrics are shares, tiny densities or multiples."""
    if value is None or math.isnan(value):
        return ABSENT
    size = abs(value)
    if size >= 10:
        return f"{value:,.1f}"
    return f"{value:.2e}" if 0 < size < 0.0005 else f"{value:.4f}"


def percent(value: float | None) -> str:
    """A share in [0, 1] with one decimal."""
    return ABSENT if value is None or math.isnan(value) else f"{value:.1%}"


def counted(count: int, noun: str) -> str:
    """A count with its noun: `1 sample`, `2,000 samples`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
