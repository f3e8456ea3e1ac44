"""DocVQA: questions on single scanned pages of industry documents. No evidence: for evaluation only.

Source: huggingface.co/datasets/lmms-lab/DocVQA, `DocVQA/validation-*.parquet` and `DocVQA/test-*.parquet`
(arXiv 2007.00398). Layout: that dataset's card. The test split has no answers.
Licence: apache-2.0 on the card; pages come from the UCSF Industry Documents Library. Size: 5,349 and 5,188 questions.
Evidence: none published; Visual-CoT has boxes for a part of it.
Score: `anls`, the benchmark's own; a number or date is compared exactly, which is stricter.
"""

from __future__ import annotations

from typing import ClassVar

from rampipe.data.hub_table import Row
from rampipe.data.plain_vqa import PlainVqaSource


class DocVqaSource(PlainVqaSource):
    """One page a sample; domain `document_page`."""

    name: ClassVar[str] = "docvqa"
    SCORE: ClassVar[str] = "anls"
    domain: ClassVar[str] = "document_page"
    where: ClassVar[str] = "DocVQA comes from huggingface.co/datasets/lmms-lab/DocVQA: DocVQA/<split>-*.parquet."
    columns: ClassVar[tuple[str, ...]] = ("questionId", "question", "answers")
    pattern: ClassVar[str] = "DocVQA/*-*.parquet"

    def sample_id(self, row: Row, place: str) -> str:
        """The benchmark's question id."""
        del place
        return str(row["questionId"])

    def answers(self, row: Row) -> tuple[str, ...]:
        """All accepted spellings; none in the test split."""
        return tuple(row["answers"] or ())
