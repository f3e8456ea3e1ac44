"""Single cells of one heavy column of a local Parquet file, without holding the column in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rampipe.errors import DataError

_WINDOW_ROWS = 16
"""Rows decoded at a time: a page is about a megabyte."""


class CellCursor:
    """Moves forward through a file and keeps one small window. Going back starts the row group again.

    Parquet has no random access inside a row group, and some datasets are one row group of many gigabytes: read rows
    in ascending order.
    """

    def __init__(self, path: Path, *, column: str) -> None:
        self._path = path
        self._column = column
        try:
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(path, error) from None
        if column not in self._file.schema_arrow.names:
            raise DataError(f"{path}: no column {column!r}, only {self._file.schema_arrow.names}. Copy it again.")
        self._window: list[Any] = []
        self._window_start = 0
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._group = -1

    @property
    def num_rows(self) -> int:
        """Rows of the file."""
        return self._file.metadata.num_rows

    def cell(self, row: int) -> Any:
        """Value of one row as Python objects. Raises DataError beyond the file or when it cannot be read."""
        if not 0 <= row < self.num_rows:
            raise DataError(f"{self._path}: no row {row}, it holds {self.num_rows}. Copy it again.")
        try:
            self._move_to(row)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(self._path, error) from None
        return self._window[row - self._window_start]

    def _move_to(self, row: int) -> None:
        group, first_row = self._group_of(row)
        if group != self._group or row < self._window_start:
            self._group, self._window, self._window_start = group, [], first_row
            self._batches = self._file.iter_batches(
                batch_size=_WINDOW_ROWS, row_groups=[group], columns=[self._column], use_threads=False
            )
        while row >= self._window_start + len(self._window):
            self._window_start += len(self._window)
            self._window = next(self._batches).column(0).to_pylist()

    def _group_of(self, row: int) -> tuple[int, int]:
        """Row group of a row, and the first row of that group."""
        first_row = 0
        for group in range(self._file.num_row_groups):
            num_rows = self._file.metadata.row_group(group).num_rows
            if row < first_row + num_rows:
                return group, first_row
            first_row += num_rows
        raise DataError(f"{self._path}: row {row} is in no row group. Copy it again.")


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: not a readable Parquet file ({str(error)[:200]}). Copy it again, or delete it.")
