"""Some columns of a committed file, with their pages verified: what a reader of large tables needs and no more."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from rampipe.errors import StorageError
from rampipe.tables.schema import TableSchema
from rampipe.tables.storage import Storage


@dataclass(frozen=True, slots=True)
class OpenTable:
    """A committed Parquet file that is open, its schema checked."""

    name: str
    file: pq.ParquetFile
    source: pa.NativeFile

    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns, text as dictionaries. Raises StorageError for damaged pages."""
        with _naming_damage(self.name):
            return self.file.read(columns=list(columns), use_threads=False)

    def stored(self, columns: Sequence[str]) -> bytes:
        """The bytes of these columns as they lie in the file, and how they are encoded, neither decoded nor verified.

        Files that give the same bytes hold the same values in these columns. Raises StorageError when they end early.
        """
        metadata, found = self.file.metadata, list[bytes]()
        names = metadata.schema.names
        places = [names.index(name) for name in columns]
        with _naming_damage(self.name):
            for group in range(metadata.num_row_groups):
                for place in places:
                    chunk = metadata.row_group(group).column(place)
                    start = chunk.dictionary_page_offset or chunk.data_page_offset
                    how = f"{chunk.physical_type} {chunk.compression} {chunk.encodings} {chunk.num_values}"
                    found += [how.encode(), self.source.read_at(chunk.total_compressed_size, start)]
        return b"\n".join(found)


@dataclass(frozen=True, slots=True)
class CommittedTable:
    """One committed Parquet file."""

    storage: Storage
    path: str
    schema: TableSchema

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.storage.uri}/{self.path}"

    @contextmanager
    def open(self) -> Generator[OpenTable]:
        """The file while it is read. Raises StorageError for a damaged footer, DataError for another schema."""
        with self.storage.open_file(self.path) as source, self._opened(source) as file:
            found = file.metadata.schema.to_arrow_schema()
            if not found.equals(self.schema.arrow_schema):  # a tenth of the time of the check, which explains
                self.schema.check(found, source=self.name)
            yield OpenTable(self.name, file, source)

    def _opened(self, source: pa.NativeFile) -> pq.ParquetFile:
        with _naming_damage(self.name):
            try:
                return pq.ParquetFile(
                    source,
                    page_checksum_verification=True,
                    read_dictionary=self.schema.texts,
                    pre_buffer=not isinstance(source, pa.OSFile),  # a local file needs no thread that fetches
                )
            except KeyError:  # a column of text is not there
                found = pq.read_metadata(source).schema.to_arrow_schema()
        self.schema.check(found, source=self.name)
        raise AssertionError(f"{self.name}: KeyError, though it has all columns of {self.schema.id}")

    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns, text as dictionaries. Raises StorageError for damaged pages, DataError for another schema."""
        with self.open() as table:
            return table.read(columns)


@contextmanager
def _naming_damage(name: str) -> Generator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise StorageError(f"{name}: not an intact Parquet file ({reason}). Run `rampipe repair` on the run.") from None
