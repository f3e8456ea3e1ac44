"""An interval of ranks: does the effect fade down the ranking?"""

from __future__ import annotations

from rampipe.heads.groups import HeadGroup
from rampipe.heads.strategies.strategy import Levels, Refused, Request, count_of, has_means

ID = "band"
MEANING = "An interval of the ranking, from one share to another"
LEVELS: Levels = "bands"
CONTROLLED = False


def choose(request: Request) -> tuple[HeadGroup, ...] | Refused:
    """What `top` of start + frac adds to `top` of start, so that bands that meet neither overlap nor leave a gap."""
    ranked = request.ranked
    # Rounded, because 0.05 + (0.15 - 0.05) is 0.15000000000000002.
    stop_frac = round(request.start_frac + (request.frac or 0.0), 12)
    start, stop = count_of(request.start_frac, ranked.num_groups), count_of(stop_frac, ranked.num_groups)
    if start >= stop:
        return Refused(f"no rank lies in {request.start_frac:g} to {stop_frac:g} of {ranked.num_groups}")
    return has_means(ranked, stop) or ranked.ordered[start:stop]
