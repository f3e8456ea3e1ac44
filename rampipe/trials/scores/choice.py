"""Choice: the prediction names a right choice, by its letter (`B`, `(b)`), its text, or both (`B. Paris`)."""

from __future__ import annotations

import string

from rampipe.trials.scores.normalise import normalise
from rampipe.types import Sample

ID = "choice"
MEANING = "The prediction is the letter or the text of a right choice"
CORRECT_FROM = 1.0


def score(prediction: str, sample: Sample) -> float | None:
    """1 or 0; None without answers or without choices. Answers may hold letters or texts."""
    if not sample.answers or not sample.choices:
        return None
    predicted = normalise(prediction)
    if not predicted:
        return 0.0
    if predicted in {normalise(answer) for answer in sample.answers}:
        return 1.0
    return float(any(predicted in _spellings(letter, text) for letter, text in _right_choices(sample)))


def _right_choices(sample: Sample) -> list[tuple[str, str]]:
    """(letter, text) of the choices that the answers name: by text, or by letter when no text matches."""
    answers = {normalise(answer) for answer in sample.answers}
    texts = [normalise(choice) for choice in sample.choices or ()]
    lettered = list(zip(string.ascii_lowercase, texts, strict=False))
    return [pair for pair in lettered if pair[1] in answers] or [pair for pair in lettered if pair[0] in answers]


def _spellings(letter: str, text: str) -> set[str]:
    return {letter, text, *(f"{letter}{mark} {text}" for mark in (".", ")", ":", ""))}
