"""Checks of Parquet shards before a run: readable footers, the schema, nulls, and ids that occur twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rampipe.errors import DataError
from rampipe.tables.schema import load_schema

SCHEMA_ID = "sample.v1"

UNREADABLE = (pa.ArrowException, OSError, ValueError)
"""What pyarrow raises over a damaged file; ValueError where a name in the footer is not UTF-8."""

MAX_UNPACKED_BYTES = 256 << 20
MAX_RATIO = 100
"""A row group may unpack to more than the one only when it is no more than the other times its bytes in the file."""

Places = dict[bytes, tuple[str, int]]
"""Bytes of a sample id -> shard and row where it was first seen."""


def open_shard(file: Any, name: str) -> pq.ParquetFile:
    """Parse a footer. Raises DataError naming the shard: a truncated or empty file must not be skipped silently."""
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        in_groups = sum(parquet.metadata.row_group(index).num_rows for index in range(parquet.num_row_groups))
    except UNREADABLE as error:
        raise DataError(
            f"shard {name}: not a readable Parquet file ({_first_line(error)}). Copy it again, or delete it."
        ) from None
    if in_groups != parquet.metadata.num_rows:  # no checksum covers the footer
        raise DataError(
            f"shard {name}: its footer says {parquet.metadata.num_rows} rows, its row groups have {in_groups}. "
            "Copy it again, or delete it."
        )
    return parquet


def check_shard(parquet: pq.ParquetFile, name: str, seen: Places) -> None:
    """Check one shard and add its ids to `seen`. Reads small columns only, never image bytes.

    Raises DataError naming shard, column and row.
    """
    load_schema(SCHEMA_ID).check(parquet.schema_arrow, source=f"shard {name}")
    _check_sizes(parquet, name)
    try:
        for first_row, table in _light_columns(parquet):
            _check_nulls(table, name, first_row)
            _check_ids(table.column("sample_id"), name, first_row, seen)
    except UNREADABLE as error:
        raise DataError(f"shard {name}: its rows cannot be read ({_first_line(error)}). Copy it again.") from None


def _check_sizes(parquet: pq.ParquetFile, name: str) -> None:
    """What a few kilobytes unpack to must not fill the memory of an actor: images do not compress."""
    for index in range(parquet.num_row_groups):
        group = parquet.metadata.row_group(index)
        columns = [group.column(column) for column in range(group.num_columns)]
        packed = sum(column.total_compressed_size for column in columns)
        unpacked = sum(column.total_uncompressed_size for column in columns)
        if unpacked > max(MAX_UNPACKED_BYTES, MAX_RATIO * packed):
            raise DataError(
                f"shard {name}: {packed} bytes of row group {index} unpack to {unpacked}, more than {MAX_RATIO} "
                "times as many. Write it with smaller row groups, or delete it."
            )


def _light_columns(parquet: pq.ParquetFile) -> Iterator[tuple[int, pa.Table]]:
    """First row and table of every row group: of each column that may not be null one leaf, enough to see its nulls."""
    required = {column.name for column in load_schema(SCHEMA_ID).columns if not column.nullable}
    leaves: dict[str, str] = {}
    for index in range(len(parquet.schema)):
        path = parquet.schema.column(index).path
        column = path.split(".")[0]
        if column in required and (column not in leaves or path.endswith(".path")):
            leaves[column] = path
    first_row = 0
    for group in range(parquet.num_row_groups):
        table = parquet.read_row_group(group, columns=list(leaves.values()))
        num_rows = parquet.metadata.row_group(group).num_rows
        if table.num_rows != num_rows:  # a checksum covers a page, not its header
            raise pa.ArrowInvalid(f"row group {group} has {table.num_rows} of {num_rows} rows")
        yield first_row, table
        first_row += table.num_rows


def _check_nulls(table: pa.Table, name: str, first_row: int) -> None:
    for column in table.column_names:
        if table.column(column).null_count:
            row = first_row + table.column(column).is_null().to_pylist().index(True)
            raise DataError(
                f"shard {name}: column {column!r} is null in row {row}; it may not be (schemas/{SCHEMA_ID}.json). "
                "Write an empty list or text, or drop the row."
            )


def _check_ids(ids: pa.ChunkedArray, name: str, first_row: int, seen: Places) -> None:
    """Compare ids as bytes: text that is not UTF-8 becomes an error row later and must not stop the plan."""
    for row, key in enumerate(as_bytes(ids), start=first_row):
        if key in seen:
            other, other_row = seen[key]
            raise DataError(
                f"sample_id {readable_id(key)!r} occurs twice: shard {other} row {other_row}, and shard {name} row "
                f"{row}. Ids must be unique over the dataset: remove or rename one."
            )
        seen[key] = (name, row)


def as_bytes(ids: pa.Array | pa.ChunkedArray) -> list[bytes]:
    """Sample ids as they are stored, valid text or not."""
    return ids.cast(pa.large_binary() if pa.types.is_large_string(ids.type) else pa.binary()).to_pylist()


def readable_id(raw: bytes) -> str:
    """A sample id as text; the hex of its bytes when it is not valid UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.hex()


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:200] or type(error).__name__
