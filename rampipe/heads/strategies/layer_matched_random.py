"""Random heads outside the target, layer by layer: is it these heads, or any of their layers?"""

from __future__ import annotations

from collections import Counter

from rampipe.heads.groups import HeadGroup
from rampipe.heads.strategies.draw import draw
from rampipe.heads.strategies.strategy import Levels, Refused, Request

ID = "layer_matched_random"
MEANING = "As many random heads in each layer, none of them of the controlled arm"
LEVELS: Levels = "target"
CONTROLLED = False


def choose(request: Request) -> tuple[HeadGroup, ...] | Refused:
    """As many of each layer as the target has of it. Refused when one layer has too few others."""
    target = set(request.target)
    chosen = list[HeadGroup]()
    for layer, size in sorted(Counter(group.layer for group in request.target).items()):
        pool = [group for group in request.ranked.ordered if group.layer == layer and group not in target]
        if len(pool) < size:
            return Refused(
                f"layer {layer} has {size} in the controlled arm, but {len(pool)} ranked ones are left outside it"
            )
        chosen += draw(pool, size, label=f"{ID}/{request.seed}")
    return tuple(chosen)
