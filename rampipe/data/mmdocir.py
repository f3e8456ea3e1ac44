"""MMDocIR: questions over whole documents of 65 pages on average, one image a page.

Source: github.com/MMDocRAG/MMDocIR (arXiv 2501.08828): `dataset/MMDocIR_annotations.jsonl` there, and
`MMDocIR_pages.parquet` from huggingface.co/datasets/MMDocIR/MMDocIR_Evaluation_Dataset, both in one folder.
Layout: `dataset/README.md` of that repository. One line a document; `page_indices` are the first and last row of its
pages in the Parquet file, both included (`search.py`), and page ids count from 0 (all 2,107 labels fit, 43 of them
the last page). `bbox` is x0, y0, x1, y1 in the units of `page_size`.
Licence: apache-2.0 on the Hub; the documents are third parties'. Size: 1,658 questions, 313 documents, 20,395 pages.
Evidence: the boxes of the labelled layouts, scaled from the page to its image; a page without a layout label counts
whole. In the published file five boxes leave their page in part (clipped later), and one is empty: an error row.
Score: `anls`. The benchmark judges retrieval only (recall of pages and layouts), never an answer.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, ClassVar

from rampipe.config import DataConfig
from rampipe.data.boxes import box_evidence, corners_of, image_size, scaled
from rampipe.data.cells import CellCursor
from rampipe.data.hub_table import stored_images
from rampipe.data.listed import Entry, ListedSource
from rampipe.data.source import Shard
from rampipe.data.text_files import read_lines
from rampipe.types import ContextPart, Evidence, Sample, StoredImage

_PAGES = "MMDocIR_pages.parquet"
_ANNOTATIONS = "MMDocIR_annotations.jsonl"
_SHARD = f"evaluation-{_ANNOTATIONS}"
_KEPT_DOCUMENTS = 2
"""An actor reads two units at once."""


class MmDocIrSource(ListedSource):
    """All pages of the document a sample, in order; domain `document`. Questions are sorted by document."""

    name: ClassVar[str] = "mmdocir"
    SCORE: ClassVar[str] = "anls"
    where: ClassVar[str] = (
        f"{_ANNOTATIONS} comes from github.com/MMDocRAG/MMDocIR (dataset/), {_PAGES} from "
        "huggingface.co/datasets/MMDocIR/MMDocIR_Evaluation_Dataset; put both in one folder."
    )

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self._cursor: CellCursor | None = None
        self._documents: dict[tuple[str, ...], tuple[StoredImage, ...]] = {}
        self._lock = threading.Lock()

    def shard_names(self) -> list[str]:
        """One virtual shard: the evaluation set."""
        return [_SHARD] if (self.folder / _ANNOTATIONS).is_file() else []

    def list_entries(self, shard: str) -> list[Entry]:
        """Questions by the place of their document in the Parquet file, which can be read forward only."""
        del shard
        keys = ("doc_name", "page_indices", "questions")
        lines = [line for _, line in read_lines(self.folder / _ANNOTATIONS, keys=keys, where=self.where)]
        entries: list[Entry] = []
        for line in sorted(lines, key=lambda one: one["page_indices"]):
            first, last = line["page_indices"]
            pages = tuple(f"{_PAGES}#{row}" for row in range(first, last + 1))
            for index, question in enumerate(line["questions"]):
                entries.append(Entry(f"{line['doc_name']}/{index}", pages, question))
        return entries

    def describe(self, shard: str, entries: Sequence[Entry]) -> Shard:
        """Digest of the questions and of the whole file of pages."""
        return super().describe(shard, [Entry(entry.sample_id, (_PAGES,), entry.line) for entry in entries])

    def read_images(self, entry: Entry) -> tuple[StoredImage, ...]:
        """Pages of the document; kept for the next question, which is mostly about the same one."""
        with self._lock:
            if entry.images not in self._documents:
                self._cursor = self._cursor or CellCursor(self.folder / _PAGES, column="image_binary")
                rows = [int(name.rpartition("#")[2]) for name in entry.images]
                pages = [image for row in rows for image in stored_images(self._cursor.cell(row), entry.sample_id)]
                kept = list(self._documents.items())[1 - _KEPT_DOCUMENTS :]
                self._documents = {**dict(kept), entry.images: tuple(pages)}
            return self._documents[entry.images]

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """All pages, then the question."""
        line = entry.line
        return Sample(
            sample_id=entry.sample_id,
            domain="document",
            context=tuple(ContextPart(kind="image", image=index) for index in range(len(images))),
            images=images,
            question=line["Q"],
            answers=(str(line["A"]),),
            choices=None,
            evidence=(*_layouts(entry, images), *_whole_pages(line, len(images))),
        )


def _layouts(entry: Entry, images: Sequence[StoredImage]) -> list[Evidence]:
    name = f"sample {entry.sample_id}"
    made: list[Evidence] = []
    for layout in entry.line["layout_mapping"]:
        page = _page(layout["page"], len(images))
        size = image_size(images[page], name=f"{name}: page {page}")
        width, height = layout["page_size"]
        corners = scaled(corners_of(layout["bbox"]), size=(float(width), float(height)), to=size)
        made.append(box_evidence(page, corners, size=size, name=name))
    return made


def _whole_pages(line: Any, num_pages: int) -> list[Evidence]:
    labelled = {layout["page"] for layout in line["layout_mapping"]}
    return [Evidence(kind="image", image=_page(page, num_pages)) for page in line["page_id"] if page not in labelled]


def _page(page: int, num_pages: int) -> int:
    if not 0 <= page < num_pages:
        raise IndexError(f"evidence on page {page} of {num_pages}, counted from 0")
    return page
