"""Random heads outside the target: is it these heads, or any so many?"""

from __future__ import annotations

from rampipe.heads.groups import HeadGroup
from rampipe.heads.strategies.draw import draw
from rampipe.heads.strategies.strategy import Levels, Refused, Request

ID = "random"
MEANING = "As many random heads, none of them of the controlled arm"
LEVELS: Levels = "target"
CONTROLLED = False


def choose(request: Request) -> tuple[HeadGroup, ...] | Refused:
    """As many as the target, from all ranked groups outside it."""
    target = set(request.target)
    pool = [group for group in request.ranked.ordered if group not in target]
    if len(pool) < len(request.target):
        return Refused(f"{len(request.target)} asked for, {len(pool)} ranked ones are left outside the controlled arm")
    return draw(pool, len(request.target), label=f"{ID}/{request.seed}")
