"""Single cells of one heavy column of a local Parquet file, without holding the column in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rampipe.errors import DataError

_WINDOW_ROWS = 16
"""Rows decoded at a time: a page is about a megabyte."""
_NUM_STREAMS = 3
"""An actor reads two units at once; with a place for each, neither sends the other back to the start."""


class CellCursor:
    """Moves forward through a file and keeps a few small windows. Going back starts the row group again.

    Parquet has no random access inside a row group, and some datasets are one row group of many gigabytes: read rows
    in ascending order. Threads may share a cursor.
    """

    def __init__(self, path: Path, *, column: str) -> None:
        self._path = path
        self._column = column
        try:
            file = pq.ParquetFile(path, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from None
        if column not in file.schema_arrow.names:
            raise DataError(f"{path}: no column {column!r}, only {file.schema_arrow.names}. Copy it again.")
        self._group_rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        self._streams: list[_Stream] = []
        self._lock = threading.Lock()

    @property
    def num_rows(self) -> int:
        """Rows of the file."""
        return sum(self._group_rows)

    def cell(self, row: int) -> Any:
        """Value of one row as Python objects. Raises DataError beyond the file or when it cannot be read."""
        if not 0 <= row < self.num_rows:
            raise DataError(f"{self._path}: no row {row}, it holds {self.num_rows}. Copy it again.")
        with self._lock:
            try:
                return self._stream_before(row).cell(row)
            except (pa.ArrowException, OSError) as error:
                self._streams.clear()
                raise _unreadable(self._path, error) from None

    def _stream_before(self, row: int) -> _Stream:
        """The nearest stream that need not go back, the latest used last; a new one in place of the oldest."""
        group, first_row = self._group_of(row)
        behind = [one for one in self._streams if one.group == group and one.start <= row]
        stream = max(behind, key=lambda one: one.start, default=None)
        if stream is None:
            stream = _Stream(self._path, self._column, group, first_row)
        else:
            self._streams.remove(stream)
        self._streams = [*self._streams, stream][-_NUM_STREAMS:]
        return stream

    def _group_of(self, row: int) -> tuple[int, int]:
        """Row group of a row, and the first row of that group."""
        first_row = 0
        for group, num_rows in enumerate(self._group_rows):
            if row < first_row + num_rows:
                return group, first_row
            first_row += num_rows
        raise DataError(f"{self._path}: row {row} is in no row group. Copy it again.")


class _Stream:
    """One way through a row group: `start` is the first row of the window that is held."""

    def __init__(self, path: Path, column: str, group: int, first_row: int) -> None:
        self.group, self.start = group, first_row
        self._window: list[Any] = []
        file = pq.ParquetFile(path, page_checksum_verification=True)
        self._batches: Iterator[pa.RecordBatch] = file.iter_batches(
            batch_size=_WINDOW_ROWS, row_groups=[group], columns=[column], use_threads=False
        )

    def cell(self, row: int) -> Any:
        """Value of a row of the group, not before `start`."""
        while row >= self.start + len(self._window):
            self.start += len(self._window)
            self._window = next(self._batches).column(0).to_pylist()
        return self._window[row - self.start]


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: not a readable Parquet file ({str(error)[:200]}). Copy it again, or delete it.")
