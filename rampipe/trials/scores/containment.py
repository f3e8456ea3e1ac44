"""Containment: an accepted answer stands in the prediction as whole words. For models that answer in sentences.

Lenient: a prediction that lists everything, or that denies the answer, is right.
"""

from __future__ import annotations

from rampipe.trials.scores.normalise import normalise
from rampipe.types import Sample

ID = "containment"
MEANING = "The prediction contains an accepted answer as whole words"
CORRECT_FROM = 1.0


def score(prediction: str, sample: Sample) -> float | None:
    """1 or 0; None without answers."""
    if not sample.answers:
        return None
    predicted = _words(prediction)
    return float(any(_contains(predicted, _words(answer)) for answer in sample.answers))


def _words(text: str) -> list[str]:
    """Split at white space only, so that 5 is in neither -5, 1.5 nor 5%; signs around each word do not count."""
    return [normalise(word) for word in text.split()]


def _contains(words: list[str], wanted: list[str]) -> bool:
    starts = range(len(words) - len(wanted) + 1)
    return bool(wanted) and any(words[start : start + len(wanted)] == wanted for start in starts)
