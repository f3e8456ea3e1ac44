"""ChartQA: questions on charts, half of them written by people. No evidence: for evaluation only.

Source: huggingface.co/datasets/lmms-lab/ChartQA, `data/test-*.parquet` (arXiv 2203.10244). Layout: that dataset's
card; `type` is `human_test` or `augmented_test`.
Licence: none on that card; the authors' own copy says gpl-3.0. Size: 2,500 questions.
Evidence: none published.
Score: `exact_match`. The benchmark's relaxed accuracy lets a number be wrong by 5 %; ours is stricter.
"""

from __future__ import annotations

from typing import ClassVar

from rampipe.data.hub_table import Row
from rampipe.data.plain_vqa import PlainVqaSource


class ChartQaSource(PlainVqaSource):
    """One chart a sample; domain `chart`."""

    name: ClassVar[str] = "chartqa"
    SCORE: ClassVar[str] = "exact_match"
    domain: ClassVar[str] = "chart"
    where: ClassVar[str] = "ChartQA comes from huggingface.co/datasets/lmms-lab/ChartQA: data/test-*.parquet."
    columns: ClassVar[tuple[str, ...]] = ("type", "question", "answer")

    def sample_id(self, row: Row, place: str) -> str:
        """Kind and place: the published rows have no id."""
        return f"{row['type']}@{place}"

    def answers(self, row: Row) -> tuple[str, ...]:
        """The one answer."""
        return (row["answer"],)
