"""One image, one question, accepted answers, no evidence: the layout that several benchmarks share on the Hub."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import ClassVar

from rampipe.data.hub_table import HubTableSource, Row
from rampipe.data.listed import Entry
from rampipe.types import ContextPart, Sample, StoredImage


class PlainVqaSource(HubTableSource):
    """For evaluation only: its samples are measured and flagged, and count in no ranking."""

    domain: ClassVar[str]

    @abc.abstractmethod
    def sample_id(self, row: Row, place: str) -> str:
        """Id of the one question of a row."""

    @abc.abstractmethod
    def answers(self, row: Row) -> tuple[str, ...]:
        """Accepted answers; empty where the published split withholds them, which gives no verdict."""

    def questions(self, row: Row, place: str) -> Iterator[tuple[str, Row]]:
        """One question a row."""
        yield self.sample_id(row, place), {"question": row["question"], "answers": list(self.answers(row))}

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """The image, then the question."""
        return Sample(
            sample_id=entry.sample_id,
            domain=self.domain,
            context=(ContextPart(kind="image", image=0),),
            images=images,
            question=entry.line["question"],
            answers=tuple(entry.line["answers"]),
            choices=None,
            evidence=(),
        )
