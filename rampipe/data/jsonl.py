"""Datasets kept as `samples.jsonl` beside a folder of images: one line a question.

A line holds `sample_id, split, images, question, answer, evidence_boxes` and what its dataset adds. There are no shard
files: all lines of one split are one virtual shard, named `<split>-samples.jsonl`, whose rows are those lines in order.
"""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from rampipe.config import DataConfig
from rampipe.data.rows import bad_row, parse_row
from rampipe.data.source import ReadResult, Shard
from rampipe.errors import DataError, SampleError
from rampipe.types import ContextPart, Evidence, Sample, StoredImage

Line = dict[str, Any]

_SUFFIX = "-samples.jsonl"


class JsonlSource(abc.ABC):
    """Reads the files; a dataset of this layout says what its lines mean."""

    name: ClassVar[str]
    SCORE: ClassVar[str]
    where: ClassVar[str]
    """Where a user gets the files."""
    keys: ClassVar[tuple[str, ...]] = ()
    """Keys of a line that this dataset needs besides those of every such dataset."""

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        self._folder = Path(config.path)
        self._lines: dict[str, list[Line]] | None = None

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

    def shards(self) -> list[Shard]:
        """One virtual shard a split. The digest covers its lines and the images that they name."""
        splits = self._splits()
        wanted = sorted(splits) if self._config.split is None else [self._config.split]
        if any(split not in splits for split in wanted):
            raise DataError(
                f"{self._folder / 'samples.jsonl'}: no line of split {self._config.split!r}; it holds "
                f"{ {split: len(lines) for split, lines in sorted(splits.items())} }. Set data.split to one of them."
            )
        return [self._shard(split, splits[split]) for split in wanted]

    def read(self, shard: str, start: int, stop: int) -> Iterator[ReadResult]:
        """Lines of one split; an image file that is missing costs its samples, not the shard."""
        for row, line in enumerate(self._lines_of(shard, start, stop), start=start):
            yield ReadResult(row, line["sample_id"], self._sample(line))

    def read_ids(self, shard: str, start: int, stop: int) -> list[str]:
        """Ids of lines of one split."""
        return [line["sample_id"] for line in self._lines_of(shard, start, stop)]

    def _lines_of(self, shard: str, start: int, stop: int) -> list[Line]:
        lines = self._splits().get(shard.removesuffix(_SUFFIX), [])
        if not 0 <= start <= stop <= len(lines):
            raise DataError(
                f"shard {shard}: rows {start} to {stop} of {len(lines)}. The files changed since they were planned."
            )
        return lines[start:stop]

    def _sample(self, line: Line) -> Sample | SampleError:
        images: list[StoredImage] = []
        for name in line["images"]:
            try:
                images.append(StoredImage(bytes=(self._folder / name).read_bytes(), path=name))
            except OSError as error:
                return SampleError(
                    f"sample {line['sample_id']}: image file {name} cannot be read ({error.strerror}). "
                    f"{self.where} Sample skipped.",
                    stage="read",
                    code="image_missing",
                )
        try:
            # The same checks as for the native format: a box in an image that is not there is found here.
            return parse_row(asdict(self._as_sample(line, tuple(images))))
        except SampleError as error:
            return error
        except (KeyError, TypeError, ValueError) as error:
            return bad_row(line["sample_id"], f"the line does not fit dataset {self.name!r} ({error!r})")

    def _as_sample(self, line: Line, images: tuple[StoredImage, ...]) -> Sample:
        return Sample(
            sample_id=line["sample_id"],
            domain=self.domain(line),
            context=tuple(ContextPart(kind="image", image=index) for index in range(len(images))),
            images=images,
            question=line["question"],
            answers=self.answers(line),
            choices=None,
            evidence=self.evidence(line),
        )

    def _shard(self, split: str, lines: list[Line]) -> Shard:
        digest = hashlib.sha256()
        names = {name: None for line in lines for name in line["images"]}
        encoded = "\n".join(json.dumps(line, sort_keys=True, ensure_ascii=True) for line in lines).encode()
        for content in (encoded, *(self._image_digest(name) for name in names)):
            digest.update(len(content).to_bytes(8, "little") + content)
        num_bytes = len(encoded) + sum(self._image_bytes(name) for name in names)
        return Shard(f"{split}{_SUFFIX}", len(lines), num_bytes, f"sha256:{digest.hexdigest()}")

    def _image_digest(self, name: str) -> bytes:
        path = self._folder / name
        return hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b"missing"

    def _image_bytes(self, name: str) -> int:
        path = self._folder / name
        return path.stat().st_size if path.is_file() else 0

    def _splits(self) -> dict[str, list[Line]]:
        """Lines by split, read once: an actor reads many units of one source."""
        if self._lines is None:
            self._lines = self._load()
        return self._lines

    def _load(self) -> dict[str, list[Line]]:
        path = self._folder / "samples.jsonl"
        try:
            texts = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            raise DataError(f"data.path = {self._config.path!r}: no samples.jsonl there. {self.where}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as UTF-8 text ({error}). {self.where}") from None
        splits: dict[str, list[Line]] = {}
        places: dict[str, int] = {}
        for number, text in enumerate(texts, start=1):
            if text.strip():
                line = self._parse(text, f"{path} line {number}")
                first = places.setdefault(line["sample_id"], number)
                if first != number:
                    raise DataError(f"{path}: sample_id {line['sample_id']!r} is on line {first} and on line {number}.")
                splits.setdefault(line["split"], []).append(line)
        if not splits:
            raise DataError(f"{path}: holds no line. {self.where}")
        return splits

    def _parse(self, text: str, where: str) -> Line:
        try:
            line = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON ({error.msg}). {self.where}") from None
        needed = ("sample_id", "split", "images", "question", "answer", "evidence_boxes", *self.keys)
        missing = [key for key in needed if not isinstance(line, dict) or key not in line]
        if missing:
            raise DataError(f"{where}: no key {missing}. {self.where}")
        return line


def _corners(box: Sequence[int | float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box
    return float(x0), float(y0), float(x1), float(y1)
