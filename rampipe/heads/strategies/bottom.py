"""The heads that fetch least evidence."""

from __future__ import annotations

from rampipe.heads.groups import HeadGroup
from rampipe.heads.strategies.strategy import Levels, Refused, Request, count_of, has_means

ID = "bottom"
MEANING = "The lowest share of the ranking"
LEVELS: Levels = "fracs"
CONTROLLED = False


def choose(request: Request) -> tuple[HeadGroup, ...] | Refused:
    """`frac` of all groups, from the last that has a mean."""
    ranked = request.ranked
    size = count_of(request.frac or 0.0, ranked.num_groups)
    return has_means(ranked, size) or ranked.ordered[len(ranked.ordered) - size :]
