"""Exact match: the prediction is an accepted answer, but for case, white space and signs around it."""

from __future__ import annotations

from rampipe.trials.scores.normalise import normalise
from rampipe.types import Sample

ID = "exact_match"
MEANING = "The prediction is an accepted answer"
CORRECT_FROM = 1.0


def score(prediction: str, sample: Sample) -> float | None:
    """1 or 0; None without answers."""
    if not sample.answers:
        return None
    predicted = normalise(prediction)
    return float(bool(predicted) and predicted in {normalise(answer) for answer in sample.answers})
