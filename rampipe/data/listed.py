"""Datasets that list their questions in light files: what is read once, and images only for the rows that are asked.

A shard is one file of questions (or all questions of a split). Its rows are the entries of that file in order, so a
resumed run finds the same rows at the same places.
"""

from __future__ import annotations

import abc
import hashlib
import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from rampipe.config import DataConfig
from rampipe.data.digests import file_sha256
from rampipe.data.rows import bad_row, parse_row
from rampipe.data.source import ReadResult, Shard
from rampipe.errors import DataError, SampleError
from rampipe.types import Sample, StoredImage

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One question as its dataset lists it, without image bytes.

    images: names in the order of `Sample.images`, relative to the dataset's folder. line: what the dataset says of it;
    JSON values only, as it belongs to the digest of the shard.
    """

    sample_id: str
    images: tuple[str, ...]
    line: Line


class ListedSource(abc.ABC):
    """Reads, numbers and digests; a dataset says where its questions are and what they mean."""

    name: ClassVar[str]
    SCORE: ClassVar[str]
    where: ClassVar[str]
    """Where a user gets the files, and how they must lie."""

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        self.folder = Path(config.path)
        self._entries: dict[str, list[Entry]] = {}
        self._digests: dict[str, bytes] = {}
        self._shards: dict[str, Shard] = {}

    @abc.abstractmethod
    def shard_names(self) -> list[str]:
        """All shards there are, in a fixed order, each named `<split>-...`. Touches file names only, where it can."""

    @abc.abstractmethod
    def list_entries(self, shard: str) -> list[Entry]:
        """The entries of one shard. Raises DataError naming file and line when they cannot be read."""

    @abc.abstractmethod
    def as_sample(self, entry: Entry, images: tuple[StoredImage, ...]) -> Sample:
        """What an entry means. KeyError, TypeError, ValueError and IndexError become error row `bad_row`."""

    def split_of(self, shard: str) -> str:
        """Split that a shard belongs to: what stands before the first dash of its file name."""
        return posixpath.basename(shard).split("-")[0]

    def shards(self) -> list[Shard]:
        """Shards of the split. The digest covers the questions and the images that they name."""
        names = self.shard_names()
        wanted = [name for name in names if self._config.split in (None, self.split_of(name))]
        if not wanted:
            splits = sorted({self.split_of(name) for name in names})
            raise DataError(
                f"data.path = {self._config.path!r}: "
                + (f"no split {self._config.split!r}, only {splits}. " if splits else "no questions there. ")
                + self.where
            )
        self._check_ids(wanted)
        return [self.shard(name) for name in wanted]

    def shard(self, name: str) -> Shard:
        """One shard as it was when this source first looked at it."""
        if name not in self._shards:
            self._shards[name] = self.describe(name, self.entries_of(name))
        return self._shards[name]

    def read(self, shard: str, start: int, stop: int) -> Iterator[ReadResult]:
        """Entries of one shard; an image that is missing costs its samples, not the shard."""
        for row, entry in enumerate(self._rows(shard, start, stop), start=start):
            yield ReadResult(row, entry.sample_id, self._sample(entry))

    def read_ids(self, shard: str, start: int, stop: int) -> list[str]:
        """Ids of entries of one shard."""
        return [entry.sample_id for entry in self._rows(shard, start, stop)]

    def entries_of(self, shard: str) -> list[Entry]:
        """Entries of one shard, listed once: an actor reads many units of one source."""
        if shard not in self._entries:
            self._entries[shard] = self.list_entries(shard)
        return self._entries[shard]

    def describe(self, shard: str, entries: Sequence[Entry]) -> Shard:
        """Rows, bytes and digest of one shard: its lines, and each image once."""
        digest = hashlib.sha256()
        names = {name: None for entry in entries for name in entry.images}
        lines = "\n".join(json.dumps(entry.line, sort_keys=True, ensure_ascii=True) for entry in entries).encode()
        for content in (lines, *(self._image_digest(name) for name in names)):
            digest.update(len(content).to_bytes(8, "little") + content)
        num_bytes = len(lines) + sum(self._image_bytes(name) for name in names)
        return Shard(shard, len(entries), num_bytes, f"sha256:{digest.hexdigest()}")

    def read_images(self, entry: Entry) -> tuple[StoredImage, ...]:
        """Image files of one entry, undecoded.

        Raises SampleError (stage read): `image_missing`, or `bad_row` for a name that leaves the dataset's folder.
        """
        images: list[StoredImage] = []
        for name in entry.images:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise bad_row(entry.sample_id, f"image file {name!r} lies outside the dataset's folder")
            try:
                images.append(StoredImage(bytes=(self.folder / name).read_bytes(), path=name))
            except OSError as error:
                raise SampleError(
                    f"sample {entry.sample_id}: image file {name} cannot be read ({error.strerror}). "
                    f"{self.where} Sample skipped.",
                    stage="read",
                    code="image_missing",
                ) from None
        return tuple(images)

    def _rows(self, shard: str, start: int, stop: int) -> list[Entry]:
        entries = self.entries_of(shard)
        if not 0 <= start <= stop <= len(entries):
            raise DataError(
                f"shard {shard}: rows {start} to {stop} of {len(entries)}. The files changed since they were planned."
            )
        return entries[start:stop]

    def _sample(self, entry: Entry) -> Sample | SampleError:
        try:
            # The same checks as for the native format: a box in an image that is not there is found here.
            return parse_row(asdict(self.as_sample(entry, self.read_images(entry))))
        except SampleError as error:
            return error
        except (KeyError, TypeError, ValueError, IndexError) as error:
            return bad_row(entry.sample_id, f"the line does not fit dataset {self.name!r} ({error!r})")

    def _check_ids(self, shards: Sequence[str]) -> None:
        places: dict[str, tuple[str, int]] = {}
        for shard in shards:
            for row, entry in enumerate(self.entries_of(shard)):
                first = places.setdefault(entry.sample_id, (shard, row))
                if first != (shard, row):
                    raise DataError(
                        f"sample_id {entry.sample_id!r} occurs twice: shard {first[0]} row {first[1]}, and shard "
                        f"{shard} row {row}. Ids must be unique over the dataset: remove or rename one."
                    )

    def _image_digest(self, name: str) -> bytes:
        if name not in self._digests:
            try:
                self._digests[name] = file_sha256(self.folder / name)
            except OSError:
                self._digests[name] = b"missing"
        return self._digests[name]

    def _image_bytes(self, name: str) -> int:
        path = self.folder / name
        return path.stat().st_size if path.is_file() else 0
