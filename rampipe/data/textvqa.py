"""TextVQA: questions on text in photographs. No evidence: for evaluation only.

Source: huggingface.co/datasets/lmms-lab/textvqa, `data/<split>-*.parquet` (arXiv 1904.08920). Layout: the card of that
dataset (also on its copy pppop7/textvqa). The test split has no answers.
Licence: CC BY 4.0 by the dataset's script; photographs are Open Images'. Size: 34,602, 5,000 and 5,734 questions.
Evidence: none published; Visual-CoT has boxes for a part of it.
Score: `exact_match` with any of the ten people's answers. The benchmark's accuracy wants three of them to agree; ours
is more lenient.
"""

from __future__ import annotations

from typing import ClassVar

from rampipe.data.hub_table import Row
from rampipe.data.plain_vqa import PlainVqaSource


class TextVqaSource(PlainVqaSource):
    """One photograph a sample; domain `scene_text`."""

    name: ClassVar[str] = "textvqa"
    SCORE: ClassVar[str] = "exact_match"
    domain: ClassVar[str] = "scene_text"
    where: ClassVar[str] = "TextVQA comes from huggingface.co/datasets/lmms-lab/textvqa: data/<split>-*.parquet."
    columns: ClassVar[tuple[str, ...]] = ("question_id", "question", "answers")

    def sample_id(self, row: Row, place: str) -> str:
        """The benchmark's question id."""
        del place
        return str(row["question_id"])

    def answers(self, row: Row) -> tuple[str, ...]:
        """The different answers, the most frequent first: it is the reference of teacher-forced rows."""
        given = [answer for answer in row["answers"] or () if answer]
        return tuple(sorted(dict.fromkeys(given), key=lambda answer: -given.count(answer)))
