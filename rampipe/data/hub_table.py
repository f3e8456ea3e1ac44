"""Datasets published on the Hugging Face Hub as Parquet files `<split>-00000-of-00003.parquet` with embedded images.

One file is one shard. Light columns are read when the shard is listed; images are read for the rows that are asked.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from rampipe.config import DataConfig
from rampipe.data.cells import CellCursor
from rampipe.data.digests import file_sha256
from rampipe.data.listed import Entry, ListedSource
from rampipe.data.source import Shard
from rampipe.errors import DataError, SampleError
from rampipe.types import StoredImage

Row = Mapping[str, Any]


class HubTableSource(ListedSource):
    """Reads the files; a dataset says which columns it needs and which questions a row holds."""

    columns: ClassVar[tuple[str, ...]]
    """Columns that the questions are made of: no images."""
    image_columns: ClassVar[tuple[str, ...]] = ("image",)
    """Columns with an image, or a list of them, in the layout of the Hub's `Image` feature."""
    pattern: ClassVar[str] = "**/*-*.parquet"
    """Where the files lie below `data.path`."""

    def __init__(self, config: DataConfig) -> None:
        super().__init__(config)
        self._cursors: dict[str, list[CellCursor]] = {}

    @abc.abstractmethod
    def questions(self, row: Row, place: str) -> Iterator[tuple[str, Row]]:
        """Sample id and line of each question of one row. place: `<file stem>/<row>`, unique over the dataset."""

    def shard_names(self) -> list[str]:
        """Files in path order."""
        return sorted(path.relative_to(self.folder).as_posix() for path in self.folder.glob(self.pattern))

    def list_entries(self, shard: str) -> list[Entry]:
        """Questions of one file, row by row."""
        stem = PurePosixPath(shard).stem
        return [
            Entry(sample_id, (f"{shard}#{index}",), line)
            for index, row in enumerate(self._light_rows(shard))
            for sample_id, line in self.questions(row, f"{stem}/{index}")
        ]

    def describe(self, shard: str, entries: Sequence[Entry]) -> Shard:
        """Rows are questions; bytes and digest are those of the file."""
        path = self.folder / shard
        return Shard(shard, len(entries), path.stat().st_size, f"sha256:{file_sha256(path).hex()}")

    def read_images(self, entry: Entry) -> tuple[StoredImage, ...]:
        """Images of the row that the entry is a question of."""
        (place,) = entry.images
        shard, _, row = place.rpartition("#")
        if shard not in self._cursors:
            self._cursors[shard] = [CellCursor(self.folder / shard, column=name) for name in self.image_columns]
        cells = [cursor.cell(int(row)) for cursor in self._cursors[shard]]
        return stored_images(cells, entry.sample_id)

    def _light_rows(self, shard: str) -> list[Row]:
        path = self.folder / shard
        try:
            file = pq.ParquetFile(path, page_checksum_verification=True)
            missing = [name for name in (*self.columns, *self.image_columns) if name not in file.schema_arrow.names]
            if missing:
                raise DataError(f"{path}: no column {missing}, only {file.schema_arrow.names}. {self.where}")
            return file.read(columns=list(self.columns)).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: not a readable Parquet file ({str(error)[:200]}). Copy it again.") from None


def stored_images(cell: Any, sample_id: str) -> tuple[StoredImage, ...]:
    """One cell as images: bytes, the struct of the Hub's `Image` feature, or a list of either.

    Raises SampleError (stage read, `image_missing`) for a null.
    """
    if isinstance(cell, list):
        return tuple(image for one in cell for image in stored_images(one, sample_id))
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes) or not data:
        message = f"sample {sample_id}: its row embeds no image. Download the files with images. Sample skipped."
        raise SampleError(message, stage="read", code="image_missing")
    return (StoredImage(bytes=data, path=cell.get("path") if isinstance(cell, dict) else None),)
