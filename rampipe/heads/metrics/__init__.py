"""Metrics: one file each, derived from `head_stats` without another GPU run. Adding one is a file and a line here."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from rampipe.config import CaptureConfig
from rampipe.errors import ConfigError
from rampipe.heads.metrics import (
    copy_score,
    density,
    excess,
    hit,
    hit_answer,
    hit_density,
    lift,
    ocr_hit,
    r2_score,
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
    copy_score,
    ocr_hit,
    r2_score,
)

OF_PEER_SCORES: tuple[Metric, ...] = (copy_score, ocr_hit, r2_score)
"""Made of columns that are null without `capture.peer_scores`."""


def metric_by_id(metric_id: str) -> Metric:
    """The metric of that id. Raises ConfigError with the nearest known id."""
    known = {metric.ID: metric for metric in METRICS}
    if metric_id in known:
        return known[metric_id]
    near = difflib.get_close_matches(metric_id, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {sorted(known)}"
    raise ConfigError(f"rank.metric = {metric_id!r}: no such metric: {hint}")


def check_captured(metric_id: str, capture: CaptureConfig) -> None:
    """Whether a capture with these settings will give the metric: asked before the capture, which may take days.

    Raises ConfigError naming the key to change.
    """
    metric = metric_by_id(metric_id)
    if metric.QUERY not in capture.queries:
        raise ConfigError(
            f"rank.metric = {metric_id!r} reads query group {metric.QUERY!r}, capture.queries is "
            f"{list(capture.queries)}. Add {metric.QUERY!r} to capture.queries, or choose another metric."
        )
    if metric is ram_calibrated and not capture.calibrate:
        raise ConfigError(f"rank.metric = {metric_id!r} needs capture.calibrate = true, or choose another metric.")
    if metric in OF_PEER_SCORES and not capture.peer_scores:
        raise ConfigError(f"rank.metric = {metric_id!r} needs capture.peer_scores = true, or choose another metric.")


def check_columns(metric_id: str, columns: Collection[str], *, run_id: str) -> None:
    """Whether the tables of a run have what the metric reads: those of an earlier version may lack it.

    Raises ConfigError naming the run and what it lacks.
    """
    lacking = sorted({*metric_by_id(metric_id).expression().meta.root_names()} - {*columns})
    if lacking:
        raise ConfigError(
            f"rank.metric = {metric_id!r} reads {lacking}, which the tables of run {run_id} do not have: an earlier "
            "version of rampipe wrote them. Capture again, or choose another metric."
        )
