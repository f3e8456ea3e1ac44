"""Accuracy of every arm, its paired difference to the base, and the verdict in sentences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64

from rampipe.heads.ranking import to_frame, to_table
from rampipe.heads.verdict.outcomes import PairedOutcomes, pair_outcomes
from rampipe.heads.verdict.paired import holm, mcnemar, wilson
from rampipe.heads.verdict.resample import Resampling, difference_intervals
from rampipe.heads.verdict.sentences import verdict_lines
from rampipe.tables.arms import Arm, ArmPlan

Row = dict[str, Any]


def judge(
    outcomes: pl.LazyFrame,
    plan: ArmPlan,
    *,
    bootstrap_samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    allow_partial: bool = False,
) -> tuple[pl.DataFrame, list[str]]:
    """Table of schema accuracy.v1, a row per scope and arm, and the verdict in sentences.

    Answers without a verdict stay out of every accuracy and are counted. Intervals draw whole contexts; McNemar's test
    takes samples as independent, so where many samples share a context the interval is the safer of the two.
    Raises IncompleteError for an arm that lacks samples, unless `allow_partial`; DataError for outcomes that do not
    belong to the plan.
    """
    resampling = Resampling(bootstrap_samples, confidence, seed)
    paired = pair_outcomes(outcomes, plan, allow_partial=allow_partial)
    rows = [row for scope, part in paired.scopes() for row in _scope_rows(scope, part, plan, resampling)]
    accuracy = to_frame(to_table(rows, "accuracy.v1"))
    return accuracy, verdict_lines(accuracy, plan, confidence=confidence)


def _scope_rows(scope: str, part: PairedOutcomes, plan: ArmPlan, resampling: Resampling) -> list[Row]:
    base = plan.arms.index(plan.base)
    differences = part.correct - part.correct[:, [base]]
    log_probs = part.log_prob - part.log_prob[:, [base]]
    keys = part.samples.get_column("context_key").to_list()
    columns = [difference_intervals(values, keys, resampling) for values in (differences, log_probs)]
    rows = list[Row]()
    for place, arm in enumerate(plan.arms):
        row = {"scope": scope, **_describe(arm), **_accuracy(part, place, resampling.confidence)}
        if place != base:
            pairs = ~np.isnan(differences[:, place])
            row |= {"num_clusters": len({key for key, is_pair in zip(keys, pairs, strict=True) if is_pair})}
            row |= {"base_accuracy": _mean(part.correct[pairs, base])}
            row |= _difference(differences[:, place])
            row |= {"log_prob_difference": _mean(log_probs[:, place])}
            ends = [*columns[0][:, place].tolist(), *columns[1][:, place].tolist()]
            names = ("diff_low", "diff_high", "log_prob_low", "log_prob_high")
            row |= {name: None if math.isnan(end) else end for name, end in zip(names, ends, strict=True)}
        rows.append(row)
    corrected = holm([row.get("mcnemar_p") for row in rows])
    return [{**row, "holm_p": value} for row, value in zip(rows, corrected, strict=True)]


def _describe(arm: Arm) -> Row:
    names = ("arm_id", "strategy", "kind", "mode", "positions", "per", "frac", "seed", "control_of")
    shares = ("num_heads", "query_head_frac", "kv_head_frac")
    return {"ranking_scope": arm.scope, **{name: getattr(arm, name) for name in (*names, *shares)}}


def _accuracy(part: PairedOutcomes, place: int, confidence: float) -> Row:
    """Of one arm alone."""
    present, correct = part.present[:, place], part.correct[:, place]
    judged = int((~np.isnan(correct)).sum())
    num_correct = int(np.nansum(correct))
    interval = wilson(num_correct, judged, confidence=confidence)
    return {
        "num_samples": len(present),
        "num_missing": len(present) - int(present.sum()),
        "num_unpredicted": int(present.sum()) - judged,
        "num_correct": num_correct,
        "accuracy": num_correct / judged if judged else None,
        "low": interval[0] if interval else None,
        "high": interval[1] if interval else None,
        "mean_score": _mean(part.score[:, place]),
    }


def _difference(differences: Float64[np.ndarray, " sample"]) -> Row:
    """Of one arm to the base: -1 for a lost answer, 1 for a gained one, NaN without a pair."""
    num_pairs = int((~np.isnan(differences)).sum())
    lost, gained = int((differences < 0).sum()), int((differences > 0).sum())
    return {
        "num_pairs": num_pairs,
        "num_lost": lost,
        "num_gained": gained,
        "difference": (gained - lost) / num_pairs if num_pairs else None,
        "mcnemar_p": mcnemar(lost, gained) if num_pairs else None,
    }


def _mean(values: Float64[np.ndarray, " sample"]) -> float | None:
    """Exactly rounded, so that no order can change it; null of nothing."""
    known = values[~np.isnan(values)].tolist()
    return math.fsum(known) / len(known) if known else None
