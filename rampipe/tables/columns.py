"""Some columns of a committed file, with their pages verified: what a reader of large tables needs and no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from rampipe.errors import StorageError
from rampipe.tables.schema import TableSchema
from rampipe.tables.storage import Storage


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

    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns, text as dictionaries. Raises StorageError for damaged pages, DataError for another schema."""
        texts = [column.name for column in self.schema.columns if column.name in columns and column.type == pa.string()]
        try:
            with (
                self.storage.open_file(self.path) as source,
                pq.ParquetFile(source, page_checksum_verification=True, read_dictionary=texts) as file,
            ):
                self.schema.check(file.schema.to_arrow_schema(), source=self.name)
                return file.read(columns=list(columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise StorageError(
                f"{self.name}: not an intact Parquet file ({reason}). Run `rampipe repair` on the run."
            ) from None
