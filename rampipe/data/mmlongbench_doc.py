"""MMLongBench-Doc: questions over long PDF documents, a fifth of them unanswerable.

Source: github.com/mayubo2333/MMLongBench-Doc (arXiv 2407.01523): `data/samples.json`, and pages as its `run_api.py`
renders them from `data/documents`: `tmp/<document>_<page>.png`, pages from 1, at most 120, as fine as its
`--resolution` (360 dots per inch in versions of 2024). PDF files themselves are not read: no renderer is among our
dependencies. Layout: that `README.md` and script.
Licence: Apache-2.0 by `LICENSE.md` there, CC BY-NC 4.0 for data by its `README.md` of 2024; documents are third
parties'. Size: 135 documents of 47.5 pages on average, 1,082 questions in the file of September 2025 (the paper counts
1,091).
Evidence: `evidence_pages`, whole pages, counted from 1. Unanswerable questions have none.
Score: `anls`. The benchmark lets a language model shorten the prediction and then scores by answer format; ours
differs: a list is one text, and a number is compared exactly.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import ClassVar

from rampipe.data.listed import Entry, ListedSource
from rampipe.data.pages import page_evidence
from rampipe.data.text_files import read_records
from rampipe.types import ContextPart, Sample, StoredImage


class MmLongBenchDocSource(ListedSource):
    """All rendered pages of a document a sample, in order; domain `document`."""

    name: ClassVar[str] = "mmlongbench_doc"
    SCORE: ClassVar[str] = "anls"
    where: ClassVar[str] = (
        "MMLongBench-Doc comes from github.com/mayubo2333/MMLongBench-Doc: data/samples.json, and tmp/<document>_<page>"
        ".png as its run_api.py renders data/documents."
    )

    def shard_names(self) -> list[str]:
        """One virtual shard: the published set has no splits."""
        return ["evaluation-samples.json"] if (self.folder / "data/samples.json").is_file() else []

    def list_entries(self, shard: str) -> list[Entry]:
        """Questions in published order; one question is asked twice of a document, so the order is part of the id."""
        del shard
        keys = ("doc_id", "question", "answer", "evidence_pages")
        pages: dict[str, tuple[str, ...]] = {}
        entries: list[Entry] = []
        for index, line in enumerate(read_records(self.folder / "data/samples.json", keys=keys, where=self.where)):
            document = PurePosixPath(line["doc_id"]).name.removesuffix(".pdf")
            if document not in pages:
                pages[document] = self._pages(document)
            entries.append(Entry(f"{index:04d}/{line['doc_id']}", pages[document], line))
        return entries

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """All pages, then the question."""
        return Sample(
            sample_id=entry.sample_id,
            domain="document",
            context=tuple(ContextPart(kind="image", image=index) for index in range(len(images))),
            images=images,
            question=entry.line["question"],
            answers=(str(entry.line["answer"]),),
            choices=None,
            evidence=page_evidence(json.loads(entry.line["evidence_pages"]), num_pages=len(images)),
        )

    def _pages(self, document: str) -> tuple[str, ...]:
        """Rendered pages without a gap; the name of the first where there is none, which makes an error row."""
        names: list[str] = []
        while (self.folder / (name := f"tmp/{document}_{len(names) + 1}.png")).is_file():
            names.append(name)
        return tuple(names) or (f"tmp/{document}_1.png",)
