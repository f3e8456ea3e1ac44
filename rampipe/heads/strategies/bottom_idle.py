"""The heads that fetch least evidence among those that the model does not need for other work."""

from __future__ import annotations

from rampipe.heads.groups import HeadGroup
from rampipe.heads.strategies.strategy import Levels, Refused, Request, count_of

ID = "bottom_idle"
MEANING = "The lowest share of the ranking among heads that the text-only control does not need, by a screen"
LEVELS: Levels = "fracs"
CONTROLLED = False


def choose(request: Request) -> tuple[HeadGroup, ...] | Refused:
    """`frac` of all groups, from the last whose heads are all idle. Refused when the screen found too few."""
    ranked = request.ranked
    size = count_of(request.frac or 0.0, ranked.num_groups)
    if request.idle is None:
        return Refused("which heads the control does not need was not screened")
    idle = tuple(group for group in ranked.ordered if request.idle.issuperset(group.heads))
    if len(idle) < size:
        return Refused(f"{size} asked for, the screen found {len(idle)} that the control does not need")
    return idle[len(idle) - size :]
