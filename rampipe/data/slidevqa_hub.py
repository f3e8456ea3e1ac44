"""SlideVQA as its authors publish it on the Hub: the same questions, each row with all slides of its deck.

Source: huggingface.co/datasets/NTT-hil-insight/SlideVQA (arXiv 2301.04883), `data/<split>-*.parquet`; access is granted
on accepting the licence. Layout: that dataset's card: a row is a question, with the slides in `page_1` to `page_20`.
Licence: NTT's own evaluation terms; slides are third parties'. Size: 10,617, 1,652 and 2,215 questions in train, val
and test.
Evidence: `evidence_pages`, whole slides, counted from 1.
Score: `exact_match`, one of the benchmark's two (the other is token F1); its long list of spellings is not applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from rampipe.data.hub_table import HubTableSource, Row
from rampipe.data.listed import Entry
from rampipe.data.pages import page_evidence
from rampipe.types import ContextPart, Sample, StoredImage

_NUM_SLIDES = 20


class SlideVqaHubSource(HubTableSource):
    """All slides of a deck a sample, in order; domain `slides`."""

    name: ClassVar[str] = "slidevqa_hub"
    SCORE: ClassVar[str] = "exact_match"
    where: ClassVar[str] = (
        "SlideVQA comes from huggingface.co/datasets/NTT-hil-insight/SlideVQA: data/<split>-*.parquet."
    )
    columns: ClassVar[tuple[str, ...]] = ("qa_id", "question", "answer", "evidence_pages")
    image_columns: ClassVar[tuple[str, ...]] = tuple(f"page_{number}" for number in range(1, _NUM_SLIDES + 1))

    def questions(self, row: Row, place: str) -> Iterator[tuple[str, Row]]:
        """One question a row; its number counts within a split, so the place is part of the id."""
        yield f"{row['qa_id']}@{place}", row

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """All slides, then the question."""
        return Sample(
            sample_id=entry.sample_id,
            domain="slides",
            context=tuple(ContextPart(kind="image", image=index) for index in range(len(images))),
            images=images,
            question=entry.line["question"],
            answers=(str(entry.line["answer"]),),
            choices=None,
            evidence=page_evidence(entry.line["evidence_pages"], num_pages=len(images)),
        )
