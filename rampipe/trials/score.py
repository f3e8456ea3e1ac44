"""Whether a predicted answer is an accepted one: exact match of normalised text, or the letter of the right choice."""

from __future__ import annotations

import re
import string

from rampipe.types import Sample

_OPENING = "\"'`*“”‘’«([{<"
_CLOSING = "\"'`*“”‘’»)]}>.,;:!?…。"
"""Signs that belong to a number are in neither: -5, .5, 5% and $5 stay what they are."""


def normalise(text: str) -> str:
    """Casefolded, runs of white space as one space, and quotes, brackets and sentence ends off both sides."""
    folded = " ".join(text.casefold().split())
    return folded.lstrip(_OPENING).rstrip(_CLOSING).strip() or folded


def is_correct(prediction: str, sample: Sample) -> bool:
    """Whether the prediction is one of the sample's answers.

    With choices, the letter of a right choice counts too (`B`, `(b)`, `B. Paris`), whether the answers hold letters or
    texts. An empty prediction is wrong.
    """
    predicted = normalise(prediction)
    if not predicted:
        return False
    if predicted in {normalise(answer) for answer in sample.answers}:
        return True
    return any(predicted in _spellings(letter, text) for letter, text in _right_choices(sample))


def _right_choices(sample: Sample) -> list[tuple[str, str]]:
    """(letter, text) of the choices that the answers name: by text, or by letter when no text matches."""
    answers = {normalise(answer) for answer in sample.answers}
    texts = [normalise(choice) for choice in sample.choices or ()]
    lettered = list(zip(string.ascii_lowercase, texts, strict=False))
    return [pair for pair in lettered if pair[1] in answers] or [pair for pair in lettered if pair[0] in answers]


def _spellings(letter: str, text: str) -> set[str]:
    return {
        letter,
        text,
        *(f"{letter}{mark} {text}" for mark in (".", ")", ":")),
        re.sub(r"\s+", " ", f"{letter} {text}"),
    }
