"""Multiple-choice questions as text: the model sees the options where the sample's `choices` only judge the answer."""

from __future__ import annotations

import string
from collections.abc import Sequence

INSTRUCTION = "Answer with the option's letter from the given choices directly."
BRIEF = "Answer the question using a single word or phrase."


def with_options(question: str, options: Sequence[str]) -> str:
    """The question, its lettered options one a line, and the instruction that LLaVA's evaluation gives."""
    lines = [f"{letter}. {option}" for letter, option in zip(string.ascii_uppercase, options, strict=False)]
    return "\n".join((question, *lines, INSTRUCTION))
