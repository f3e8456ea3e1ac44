"""Heads that the user names, e.g. those of another model, method or publication."""

from __future__ import annotations

from rampipe.errors import ConfigError
from rampipe.heads.groups import HeadGroup
from rampipe.heads.strategies.strategy import Levels, Refused, Request

ID = "from_list"
MEANING = "A list of heads of the user's"
LEVELS: Levels = "heads"
CONTROLLED = True


def choose(request: Request) -> tuple[HeadGroup, ...] | Refused:
    """The groups of the listed heads; per kv_head, a group is taken whole when one of its heads is listed.

    Raises ConfigError for a head that the ranking does not have.
    """
    groups = {head: group for group in request.ranked.ordered for head in group.heads}
    unknown = [head for head in request.listed if head not in groups]
    if unknown:
        raise ConfigError(
            f"heads: {len(unknown)} of {len(request.listed)} listed heads are not in the ranking, first {unknown[0]}. "
            'Write zero-based "layer.head" of the ranked model.'
        )
    chosen = {groups[head] for head in request.listed}
    return tuple(group for group in request.ranked.ordered if group in chosen)
