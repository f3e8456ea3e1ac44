"""SlideVQA: questions over slide decks of 20 slides, answered from one slide or several.

Source: github.com/nttmdlab-nlp/SlideVQA (arXiv 2301.04883): `annotations/qa/<split>.jsonl` there, and slides that its
`download_slides_slideshare.py` stores as `images/<split>/<deck_name>/<last part of the URL>`, query string and all; a
file without it is found too. Layout: its `README.md` and that script. Some slides are gone there: `slidevqa_hub` reads
the complete copy on the Hub.
Licence: NTT's own evaluation terms (`LICENSE` there); slides are third parties'. Size: 14,484 questions, 2,619 decks.
Evidence: `evidence_pages`, whole slides, counted from 1. The published boxes mark what is on a slide, not the answer.
Score: `exact_match`, one of the benchmark's two (the other is token F1); its long list of spellings is not applied.
"""

from __future__ import annotations

import posixpath
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
        slides: dict[str, tuple[str, ...]] = {}
        for _, line in read_lines(self.folder / f"annotations/qa/{split}.jsonl", keys=keys, where=self.where):
            deck = f"images/{split}/{line['deck_name']}"
            if deck not in slides:
                slides[deck] = tuple(self._slide(deck, url) for url in line["image_urls"])
            entries.append(Entry(f"{split}/{line['qa_id']}", slides[deck], line))
        return entries

    def _slide(self, deck: str, url: str) -> str:
        """File of a slide: as the download script names it, or without the query string."""
        stored = f"{deck}/{posixpath.basename(url)}"
        if (self.folder / stored).is_file():
            return stored
        return f"{deck}/{posixpath.basename(urlsplit(url).path)}"

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
