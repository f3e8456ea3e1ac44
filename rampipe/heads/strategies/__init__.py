"""Strategies: one file each, which heads an arm touches. Adding one is a file and a line here."""

from __future__ import annotations

import difflib

from rampipe.errors import ConfigError
from rampipe.heads.strategies import (
    band,
    bottom,
    bottom_idle,
    cumulative_mass,
    from_list,
    layer_matched_random,
    random,
    top,
)
from rampipe.heads.strategies.strategy import Strategy

STRATEGIES: tuple[Strategy, ...] = (
    top,
    bottom,
    bottom_idle,
    band,
    cumulative_mass,
    from_list,
    random,
    layer_matched_random,
)


def strategy_by_id(strategy_id: str) -> Strategy:
    """The strategy of that id. Raises ConfigError with the nearest known id."""
    known = {strategy.ID: strategy for strategy in STRATEGIES}
    if strategy_id in known:
        return known[strategy_id]
    near = difflib.get_close_matches(strategy_id, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {sorted(known)}"
    raise ConfigError(f"strategies names {strategy_id!r}: no such strategy: {hint}")
