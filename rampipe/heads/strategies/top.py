"""The heads that fetch most evidence: the CoRe heads of that share."""

from __future__ import annotations

from rampipe.heads.groups import HeadGroup
from rampipe.heads.strategies.strategy import Levels, Refused, Request, count_of, has_means

ID = "top"
MEANING = "The highest share of the ranking"
LEVELS: Levels = "fracs"
CONTROLLED = True


def choose(request: Request) -> tuple[HeadGroup, ...] | Refused:
    """`frac` of all groups, from the first."""
    ranked = request.ranked
    size = count_of(request.frac or 0.0, ranked.num_groups)
    return has_means(ranked, size) or ranked.ordered[:size]
