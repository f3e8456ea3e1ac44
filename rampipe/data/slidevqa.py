"""SlideVQA: questions over slide decks of 20 slides, answered from one slide or several.

Source: github.com/nttmdlab-nlp/SlideVQA (arXiv 2301.04883): `annotations/qa/<split>.jsonl` there, and slides that its
`download_slides_slideshare.py` stores as `images/<split>/<deck_name>/<last part of the URL>`. Layout: its `README.md`
and that script. The copy at huggingface.co/datasets/NTT-hil-insight/SlideVQA has another layout and is not read.
Licence: NTT's own evaluation terms (`LICENSE` there); slides are third parties'. Size: 14,484 questions, 2,619 decks.
Evidence: `evidence_pages`, whole slides, counted from 1. The published boxes mark what is on a slide, not the answer.
Score: `exact_match`, one of the benchmark's two (the other is token F1); its long list of spellings is not applied.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar
from urllib.parse import urlsplit

from rampipe.data.listed import Entry, ListedSource
from rampipe.data.pages import page_evidence
from rampipe.data.text_files import read_lines
from rampipe.types import ContextPart, Sample, StoredImage


class SlideVqaSource(ListedSource):
    """All slides of a deck a sample, in order; domain `slides`."""

    name: ClassVar[str] = "slidevqa"
    SCORE: ClassVar[str] = "exact_match"
    where: ClassVar[str] = (
        "SlideVQA comes from github.com/nttmdlab-nlp/SlideVQA: annotations/qa/<split>.jsonl, and images/<split>/ by "
        "its download_slides_slideshare.py."
    )

    def shard_names(self) -> list[str]:
        """One virtual shard a split: `<split>-qa.jsonl`."""
        return [f"{path.stem}-qa.jsonl" for path in sorted(self.folder.glob("annotations/qa/*.jsonl"))]

    def list_entries(self, shard: str) -> list[Entry]:
        """Questions of one split."""
        split = self.split_of(shard)
        keys = ("deck_name", "image_urls", "qa_id", "question", "answer", "evidence_pages")
        entries: list[Entry] = []
        for _, line in read_lines(self.folder / f"annotations/qa/{split}.jsonl", keys=keys, where=self.where):
            names = [PurePosixPath(urlsplit(url).path).name for url in line["image_urls"]]
            images = tuple(f"images/{split}/{line['deck_name']}/{name}" for name in names)
            entries.append(Entry(f"{split}/{line['qa_id']}", images, line))
        return entries

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
