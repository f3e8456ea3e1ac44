"""LongDocURL: questions over documents of 30 pages, one image a page.

Source: github.com/dengc2023/LongDocURL (arXiv 2412.18424). Licence: the Hugging Face card says apache-2.0, the
repository has no licence file, and the pages come from third-party documents. Size: 2,325 questions over 396 documents.
Evidence: `region` lines have a box (tables, mostly); `page` lines know only the page, which counts as a whole image.
Score: `anls`, nearest to the benchmark's own generalised accuracy (texts by ANLS, figures as numbers). Ours differs: no
language model shortens the prediction first, figures are compared as text, and the entries of a list are one text.
"""

from __future__ import annotations

from typing import ClassVar

from rampipe.data.jsonl import JsonlSource
from rampipe.data.listed import Line
from rampipe.types import Evidence


class LongDocUrlSource(JsonlSource):
    """All pages of one excerpt a sample, in order; domain `document`."""

    name: ClassVar[str] = "longdocurl"
    SCORE: ClassVar[str] = "anls"
    where: ClassVar[str] = (
        "Pages and questions come from github.com/dengc2023/LongDocURL (data/LongDocURL.jsonl, data/pdf_pngs), written "
        "as samples.jsonl beside images/."
    )
    keys: ClassVar[tuple[str, ...]] = ("evidence_policy", "evidence_images")

    def domain(self, line: Line) -> str:
        """Always `document`."""
        del line
        return "document"

    def answers(self, line: Line) -> tuple[str, ...]:
        """One accepted answer; the entries of a list are all wanted, so they are joined by `; `."""
        answer = line["answer"]
        return ("; ".join(str(entry) for entry in answer) if isinstance(answer, list) else str(answer),)

    def evidence(self, line: Line) -> tuple[Evidence, ...]:
        """Boxes of a region, or whole pages."""
        if line["evidence_policy"] == "page":
            return tuple(Evidence(kind="image", image=image) for image in line["evidence_images"])
        return super().evidence(line)
