"""ANLS: similarity of spelling to the nearest accepted answer, 0 below the threshold.

The score of one sample; its average over samples is the ANLS of a dataset. Forgives misread characters, not another
answer. Numbers are text here: 2016 is near to 2015, so `auto` compares figures exactly.
Source: Biten et al., arXiv 1905.13648, eq. 1, as DocVQA uses it: threshold 0.5, case and runs of white space aside.
"""

from __future__ import annotations

from rampipe.types import Sample

ID = "anls"
MEANING = "One minus the normalised edit distance to the nearest answer, 0 where half or more is wrong"
THRESHOLD = 0.5
CORRECT_FROM = THRESHOLD


def score(prediction: str, sample: Sample) -> float | None:
    """0, or more than 0.5 up to 1; None without answers."""
    if not sample.answers:
        return None
    predicted = _plain(prediction)
    return max(_similarity(predicted, _plain(answer)) for answer in sample.answers)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _similarity(predicted: str, answer: str) -> float:
    longest = max(len(predicted), len(answer))
    # The distance is at least the difference of lengths: a long text is not worth comparing with a short answer.
    if not predicted or abs(len(predicted) - len(answer)) >= THRESHOLD * longest:
        return 0.0
    distance = edit_distance(predicted, answer) / longest
    return 1.0 - distance if distance < THRESHOLD else 0.0


def edit_distance(first: str, second: str) -> int:
    """Levenshtein: the fewest characters to insert, delete or replace."""
    row = list(range(len(second) + 1))
    for index, char in enumerate(first, start=1):
        diagonal, row[0] = row[0], index
        for column, other in enumerate(second, start=1):
            replaced = diagonal + (char != other)
            diagonal, row[column] = row[column], min(replaced, row[column] + 1, row[column - 1] + 1)
    return row[-1]
