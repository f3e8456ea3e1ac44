"""Spelling that does not matter: case, white space, and signs around a text."""

from __future__ import annotations

_OPENING = "\"'`*“”‘’«([{<"
_CLOSING = "\"'`*“”‘’»)]}>.,;:!?…。"
"""Signs that belong to a number are in neither: -5, .5, 5% and $5 stay what they are."""


def normalise(text: str) -> str:
    """Casefolded, runs of white space as one space, and quotes, brackets and sentence ends off both sides."""
    folded = " ".join(text.casefold().split())
    return folded.lstrip(_OPENING).rstrip(_CLOSING).strip() or folded
