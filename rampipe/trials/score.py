"""Whether a predicted answer is an accepted one, by the rule that fits a native sample."""

from __future__ import annotations

from rampipe.trials.scores import resolve_metric, score_answer
from rampipe.types import Sample


def is_correct(prediction: str, sample: Sample) -> bool:
    """Exact match of normalised text, or the letter of a right choice. An empty prediction is wrong."""
    metric = resolve_metric("auto", "exact_match", sample)
    return score_answer(prediction, sample, metric=metric).correct is True
