"""BoundingDocs: questions over scanned documents of ten older datasets, each answer with its place.

Source: huggingface.co/datasets/letxbe/BoundingDocs, `data/<split>-*.parquet` (arXiv 2501.03403). Layout: that
dataset's card; `Q&A` is JSON text, id to question, answers and rephrased question. A `location` is width, height,
left, top in thousandths of the page, as the paper says; pages count from 1.
Licence: CC-BY-4.0. Size: 48,151 documents, 237,437 pages, 249,016 questions, 190 GB.
Evidence: the boxes of the answer's words, exact. A question whose answer was found nowhere has none.
Score: `anls`, usual for these datasets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from rampipe.data.boxes import box_evidence, corners_of, image_size, scaled
from rampipe.data.hub_table import HubTableSource, Row
from rampipe.data.listed import Entry
from rampipe.errors import DataError
from rampipe.types import ContextPart, Evidence, Sample, StoredImage

_PER_MILLE = (1000.0, 1000.0)


class BoundingDocsSource(HubTableSource):
    """All pages of a document and one question a sample; domain is the older dataset's name."""

    name: ClassVar[str] = "boundingdocs"
    SCORE: ClassVar[str] = "anls"
    where: ClassVar[str] = (
        "BoundingDocs comes from huggingface.co/datasets/letxbe/BoundingDocs: data/<split>-*.parquet."
    )
    columns: ClassVar[tuple[str, ...]] = ("source", "doc_id", "Q&A")
    image_columns: ClassVar[tuple[str, ...]] = ("doc_images",)

    def questions(self, row: Row, place: str) -> Iterator[tuple[str, Row]]:
        """Questions of one document in published order. The row is named too: a document may be in two splits."""
        try:
            asked: Mapping[str, Any] = json.loads(row["Q&A"])
        except (TypeError, json.JSONDecodeError) as error:
            raise DataError(f"{place}: column 'Q&A' is not JSON ({error}). {self.where}") from None
        for key, value in asked.items():
            yield f"{key}@{place}", {"source": row["source"], **value}

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """The question as rephrased, which reads as a sentence; as first published where it was not."""
        line = entry.line
        return Sample(
            sample_id=entry.sample_id,
            domain=line["source"],
            context=tuple(ContextPart(kind="image", image=index) for index in range(len(images))),
            images=images,
            question=line.get("rephrased_question") or line["question"],
            answers=tuple(dict.fromkeys(answer["value"] for answer in line["answers"])),
            choices=None,
            evidence=tuple(_places(entry, images)),
        )


def _places(entry: Entry, images: tuple[StoredImage, ...]) -> Iterator[Evidence]:
    name = f"sample {entry.sample_id}"
    for answer in entry.line["answers"]:
        page = answer["page"] - 1
        if not 0 <= page < len(images):
            raise IndexError(f"an answer on page {answer['page']} of {len(images)}, counted from 1")
        size = image_size(images[page], name=f"{name}: page {page}")
        for location in answer["location"]:
            corners = scaled(corners_of(location, order="whxy"), size=_PER_MILLE, to=size)
            yield box_evidence(page, corners, size=size, name=name)
