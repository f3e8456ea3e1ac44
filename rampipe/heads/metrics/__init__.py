"""Metrics: one file each, derived from `head_stats` without another GPU run. Adding one is a file and a line here."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from rampipe.errors import ConfigError
from rampipe.heads.metrics import (
    density,
    excess,
    hit,
    hit_answer,
    hit_density,
    lift,
    ram,
    ram_answer,
    ram_calibrated,
    ram_last,
    visual_share,
)
from rampipe.heads.metrics.metric import Metric

METRICS_VERSION = 1
"""Raised by hand when a definition, and so a number, changes: rankings of another version are made again."""

METRICS: tuple[Metric, ...] = (
    ram,
    ram_last,
    ram_answer,
    ram_calibrated,
    visual_share,
    density,
    lift,
    excess,
    hit,
    hit_answer,
    hit_density,
)


def metric_by_id(metric_id: str) -> Metric:
    """The metric of that id. Raises ConfigError with the nearest known id."""
    known = {metric.ID: metric for metric in METRICS}
    if metric_id in known:
        return known[metric_id]
    near = difflib.get_close_matches(metric_id, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {sorted(known)}"
    raise ConfigError(f"rank.metric = {metric_id!r}: no such metric: {hint}")


def check_captured(metric_id: str, queries: Collection[str], *, calibrate: bool) -> None:
    """Whether a capture with these settings will give the metric: asked before the capture, which may take days.

    Raises ConfigError naming the key to change.
    """
    metric = metric_by_id(metric_id)
    if metric.QUERY not in queries:
        raise ConfigError(
            f"rank.metric = {metric_id!r} reads query group {metric.QUERY!r}, capture.queries is {list(queries)}. "
            f"Add {metric.QUERY!r} to capture.queries, or choose another metric."
        )
    if metric is ram_calibrated and not calibrate:
        raise ConfigError(f"rank.metric = {metric_id!r} needs capture.calibrate = true, or choose another metric.")
