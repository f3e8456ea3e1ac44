"""Which of the lowest heads the text-only control does not need: what `bottom_idle` chooses from.

A low RAM says that a head does not look at the evidence, not that it does nothing. So the lower half of the ranking is
screened first, by an ablation of its own on samples that have nothing to retrieve: it is cut into bands of equal size,
each band is silenced alone, and a band without which the model answers these samples worse is needed. Bands are bands
of the ranking, so the screen is planned, run, resumed and judged as any ablation is; nothing but this module knows that
it is one.

Limits: heads that stand in for each other are not found one by one, and bands that are idle alone may matter together.
What the chosen heads do together shows in the ablation itself, on control samples that did not choose them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import polars as pl

from rampipe.config import AblateConfig
from rampipe.errors import ConfigError
from rampipe.heads.strategies import bottom_idle
from rampipe.heads.verdict.outcomes import CONTROL
from rampipe.tables.arms import BASE, ArmPlan
from rampipe.types import HeadId

STAGE = "screen"
LOWEST_FRAC = 0.5
"""Share of the ranking that is screened, from its end."""
MAX_BANDS = 32
"""Arms of a screen: a band is one head where there are few, else as many as it takes."""
TOLERANCE = 0.02
"""A band is needed when its removal costs more than this: share of right answers, or nats per token of the reference
answer's mean log-probability.
"""

Row = dict[str, Any]


def needs_screen(config: AblateConfig) -> bool:
    """Whether a strategy asks what the control does not need."""
    return bottom_idle.ID in config.strategies


def screen_config(config: AblateConfig, *, num_heads: int) -> AblateConfig:
    """The ablation that is the screen: bands of the lower half, each zeroed at all positions, on `screen_split`.

    How answers are judged is as configured; nothing else of the ablation proper makes another screen. The split may be
    the ranked one: samples without evidence are in no mean of the ranking.
    """
    num_lowest = max(1, int(num_heads * LOWEST_FRAC))
    num_bands = min(MAX_BANDS, num_lowest)
    left = [num_lowest * band / num_bands / num_heads for band in range(num_bands, -1, -1)]
    edges = [round(1.0 - share, 12) for share in left]
    return AblateConfig(
        strategies=("band",),
        bands=tuple(pairwise(edges)),
        split=config.screen_split,
        allow_same_samples=True,
        bootstrap_samples=config.bootstrap_samples,
        confidence=config.confidence,
        seed=config.seed,
        allow_partial=config.allow_partial,
    )


def idle_heads(accuracy: pl.DataFrame, plan: ArmPlan) -> frozenset[HeadId]:
    """Heads of the bands that the control does not need. accuracy: of the screen.

    Raises ConfigError when the screened split has no control sample.
    """
    if accuracy.filter(pl.col("scope") == CONTROL).is_empty():
        raise ConfigError(
            f"ablate.screen_split {plan.settings.get('split')!r}: no sample is without images and evidence. Name a "
            "split of such samples: they show what a head is needed for beyond retrieval."
        )
    idle = [row["arm_id"] for row in screened_bands(accuracy) if not is_needed(row)]
    return frozenset(head for arm_id in idle for head in plan.arm(arm_id).heads)


def screened_bands(accuracy: pl.DataFrame) -> list[Row]:
    """Rows of the control set, one per band."""
    return accuracy.filter(pl.col("scope") == CONTROL, pl.col("arm_id") != BASE).to_dicts()


def is_needed(row: Row) -> bool:
    """Whether the control was answered worse without the band, or not judged at all."""
    if row["difference"] is None:
        return True
    log_prob = row["log_prob_difference"]
    return row["difference"] < -TOLERANCE or (log_prob is not None and log_prob < -TOLERANCE)
