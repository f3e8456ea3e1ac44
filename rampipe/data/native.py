"""The native format: a folder or object-store prefix of Parquet shards with the schema `schemas/sample.v1.json`.

Evidence means what the dataset's author made it mean; licence and size are the dataset's own.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from rampipe.config import DataConfig
from rampipe.data.digests import file_sha256
from rampipe.data.footers import UNREADABLE, Places, as_bytes, check_shard, open_shard, readable_id
from rampipe.data.rows import parse_row
from rampipe.data.source import ReadResult, Shard
from rampipe.errors import DataError, SampleError
from rampipe.tables.storage import refuse_credentials
from rampipe.types import Sample

_READ_ROWS = 16
"""Rows decoded at a time: images make rows heavy, and a unit needs them one by one."""
_SIGNS_OF_CHANGE = ("ETag", "etag", "generation", "LastModified", "mtime", "created")
"""What stores say of a file, the surest first."""


class NativeSource:
    """Parquet shards of samples, local or on any store that fsspec knows."""

    name: ClassVar[str] = "samples"
    SCORE: ClassVar[str] = "exact_match"

    def __init__(self, config: DataConfig) -> None:
        refuse_credentials(config.path)
        self._config = config
        self._known: dict[str, tuple[list[Any], Shard]] = {}
        try:
            self._files, self._root = fsspec.core.url_to_fs(config.path)
        except (ImportError, ValueError) as error:
            raise DataError(
                f"data.path = {config.path!r}: {error}. Use a local folder or s3://bucket/prefix."
            ) from None

    def shards(self) -> list[Shard]:
        """Shards below `data.path` in path order; only `<split>-*.parquet` when `data.split` is set.

        Raises DataError on no shards, an unreadable footer, another schema, nulls where none may be, or an id that
        occurs twice.
        """
        seen: Places = {}
        return [self._checked_shard(path, seen) for path in self._paths()]

    def shard(self, name: str) -> Shard:
        """One shard as it is now; a file is opened again only when what its store says of it has changed."""
        full_path = posixpath.join(self._root, name)
        try:
            self._files.invalidate_cache()
            info = self._files.info(full_path)
            signature = [info.get(key) for key in ("size", "ino", *_SIGNS_OF_CHANGE)]
            if name not in self._known or self._known[name][0] != signature:
                with self._files.open(full_path, "rb") as file:
                    num_rows = open_shard(file, name).metadata.num_rows
                self._known[name] = (signature, Shard(name, num_rows, int(info["size"]), self._digest(full_path, info)))
        except OSError as error:
            raise DataError(f"shard {name}: cannot be read ({error}). Put it back.") from None
        return self._known[name][1]

    def read(self, shard: str, start: int, stop: int) -> Iterator[ReadResult]:
        """Rows of one shard; only the row groups that hold them are read."""
        try:
            with self._files.open(posixpath.join(self._root, shard), "rb") as file:
                yield from _read_rows(file, shard, start, stop)
        except UNREADABLE as error:
            raise DataError(f"shard {shard}: rows {start} to {stop} cannot be read ({error}). Copy it again.") from None

    def read_ids(self, shard: str, start: int, stop: int) -> list[str]:
        """Ids of rows of one shard; no other column is read."""
        try:
            with self._files.open(posixpath.join(self._root, shard), "rb") as file:
                parquet = open_shard(file, shard)
                _check_rows(parquet, shard, start, stop)
                ids = parquet.read(columns=["sample_id"]).column("sample_id")
                return [readable_id(raw) for raw in as_bytes(ids)[start:stop]]
        except UNREADABLE as error:
            raise DataError(f"shard {shard}: its ids cannot be read ({error}). Copy it again.") from None

    def _paths(self) -> list[str]:
        """Shards of the split, relative to the root."""
        try:
            found = sorted(str(path) for path in self._files.find(self._root))
        except OSError as error:
            raise DataError(f"data.path = {self._config.path!r}: cannot be listed ({error}).") from None
        names = [posixpath.relpath(path, self._root) for path in found]
        prefix = f"{self._config.split}-" if self._config.split is not None else ""
        shards = [name for name in names if name.endswith(".parquet") and posixpath.basename(name).startswith(prefix)]
        if not shards:
            there = f"it holds {names[:10]}{' ...' if len(names) > 10 else ''}" if names else "it is empty or missing"
            raise DataError(
                f"data.path = {self._config.path!r}: no shard {prefix}*.parquet; {there}. "
                "Check data.path and data.split."
            )
        return shards

    def _checked_shard(self, path: str, seen: Places) -> Shard:
        with self._files.open(posixpath.join(self._root, path), "rb") as file:
            check_shard(open_shard(file, path), path, seen)
        return self.shard(path)

    def _digest(self, full_path: str, info: dict[str, Any]) -> str:
        if isinstance(self._files, LocalFileSystem):
            return f"sha256:{file_sha256(Path(full_path)).hex()}"
        for key in _SIGNS_OF_CHANGE:
            if info.get(key) is not None:
                return f"{key.lower()}:{str(info[key]).strip(chr(34))}"
        return f"bytes:{info.get('size')}"


def _read_rows(file: Any, shard: str, start: int, stop: int) -> Iterator[ReadResult]:
    parquet = open_shard(file, shard)
    _check_rows(parquet, shard, start, stop)
    first_row = num_read = 0
    for group in range(parquet.num_row_groups):
        group_rows = parquet.metadata.row_group(group).num_rows
        if first_row < stop and first_row + group_rows > start:
            row = first_row
            for batch in parquet.iter_batches(batch_size=_READ_ROWS, row_groups=[group]):
                for index in range(max(start - row, 0), min(stop - row, batch.num_rows)):
                    yield _read_row(batch.slice(index, 1), row + index)
                    num_read += 1
                row += batch.num_rows
        first_row += group_rows
    if num_read != stop - start:
        raise pa.ArrowInvalid(f"{num_read} rows are there")


def _check_rows(parquet: pq.ParquetFile, shard: str, start: int, stop: int) -> None:
    num_rows = parquet.metadata.num_rows
    if not 0 <= start <= stop <= num_rows:
        raise DataError(f"shard {shard}: rows {start} to {stop} of {num_rows}. The file changed since it was planned.")


def _read_row(batch: pa.RecordBatch, row: int) -> ReadResult:
    """One row as a sample or as the reason why there is none."""
    sample_id = readable_id(as_bytes(batch.column("sample_id"))[0])
    return ReadResult(row, sample_id, _parse(batch, sample_id))


def _parse(batch: pa.RecordBatch, sample_id: str) -> Sample | SampleError:
    try:
        return parse_row(batch.to_pylist()[0])
    except UnicodeDecodeError:
        return SampleError(
            f"sample {sample_id}: a text of the row is not valid UTF-8. Write the shard again from decoded text. "
            "Sample skipped.",
            stage="read",
            code="not_utf8",
        )
    except SampleError as error:
        return error
