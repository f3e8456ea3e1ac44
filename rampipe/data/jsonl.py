"""Datasets kept as `samples.jsonl` beside a folder of images: one line a question.

A line holds `sample_id, split, images, question, answer, evidence_boxes` and what its dataset adds. There are no shard
files: all lines of one split are one virtual shard, named `<split>-samples.jsonl`, whose rows are those lines in order.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import ClassVar

from rampipe.config import DataConfig
from rampipe.data.listed import Entry, Line, ListedSource
from rampipe.data.text_files import read_lines
from rampipe.errors import DataError
from rampipe.types import ContextPart, Evidence, Sample, StoredImage

_SUFFIX = "-samples.jsonl"


class JsonlSource(ListedSource):
    """Reads the files; a dataset of this layout says what its lines mean."""

    keys: ClassVar[tuple[str, ...]] = ()
    """Keys of a line that this dataset needs besides those of every such dataset."""

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self._splits: dict[str, list[Entry]] | None = None

    @abc.abstractmethod
    def domain(self, line: Line) -> str:
        """Domain of one line."""

    def answers(self, line: Line) -> tuple[str, ...]:
        """Accepted answers of one line."""
        return (str(line["answer"]),)

    def evidence(self, line: Line) -> tuple[Evidence, ...]:
        """Evidence of one line: its boxes."""
        return tuple(
            Evidence(kind="box", image=int(box["image"]), box=_corners(box["xyxy"])) for box in line["evidence_boxes"]
        )

    def shard_names(self) -> list[str]:
        """One virtual shard a split."""
        return [f"{split}{_SUFFIX}" for split in sorted(self._load())]

    def split_of(self, shard: str) -> str:
        """All of the name before `-samples.jsonl`: a split may hold a dash itself."""
        return shard.removesuffix(_SUFFIX)

    def list_entries(self, shard: str) -> list[Entry]:
        """Lines of one split."""
        return self._load().get(self.split_of(shard), [])

    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """All images in order, then the question."""
        line = entry.line
        return Sample(
            sample_id=entry.sample_id,
            domain=self.domain(line),
            context=tuple(ContextPart(kind="image", image=index) for index in range(len(images))),
            images=images,
            question=line["question"],
            answers=self.answers(line),
            choices=None,
            evidence=self.evidence(line),
        )

    def _load(self) -> dict[str, list[Entry]]:
        """Lines by split, read once."""
        if self._splits is None:
            path = self.folder / "samples.jsonl"
            keys = ("sample_id", "split", "images", "question", "answer", "evidence_boxes", *self.keys)
            splits: dict[str, list[Entry]] = {}
            places: dict[str, int] = {}
            for number, line in read_lines(path, keys=keys, where=self.where):
                first = places.setdefault(line["sample_id"], number)
                if first != number:
                    raise DataError(f"{path}: sample_id {line['sample_id']!r} is on line {first} and on line {number}.")
                entry = Entry(line["sample_id"], tuple(line["images"]), line)
                splits.setdefault(line["split"], []).append(entry)
            if not splits:
                raise DataError(f"{path}: holds no line. {self.where}")
            self._splits = splits
        return self._splits


def _corners(box: Sequence[int | float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    return float(x0), float(y0), float(x1), float(y1)
