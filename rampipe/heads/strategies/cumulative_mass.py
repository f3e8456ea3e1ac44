"""The fewest heads that hold a given share of the retrieval: half of it, by default."""

from __future__ import annotations

from itertools import accumulate

from rampipe.heads.groups import HeadGroup
from rampipe.heads.strategies.strategy import Levels, Refused, Request

ID = "cumulative_mass"
MEANING = "The fewest heads that hold a share of the positive mass (arXiv 2605.27243)"
LEVELS: Levels = "masses"
CONTROLLED = True

_ROUNDING = 1e-12
"""Shares sum to 1 only up to float64 rounding."""


def choose(request: Request) -> tuple[HeadGroup, ...] | Refused:
    """From the first, until their shares reach `frac`."""
    frac = request.frac or 0.0
    if request.ranked.shares is None:
        return Refused("no head has a positive mean")
    if frac <= 0.0:
        return ()
    for size, reached in enumerate(accumulate(request.ranked.shares), start=1):
        if reached >= frac - _ROUNDING:
            return request.ranked.ordered[:size]
    return Refused(f"the ranked heads hold less than {frac:g} of the positive mass")
