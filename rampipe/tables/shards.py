"""Writing samples as native shards: what every conversion of a dataset ends with."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rampipe.errors import DataError
from rampipe.tables.schema import load_schema
from rampipe.types import Sample


def write_shards(
    samples: Iterable[Sample], folder: str | Path, *, split: str, rows_per_shard: int = 64, replace: bool = False
) -> list[Path]:
    """Write `<split>-00000.parquet` and so on, each atomically, with the same bytes for the same samples.

    Returns the paths in order. Raises DataError and takes `replace` as `write_chunks`.
    """
    rows = iter(samples)
    chunks = iter(lambda: list(itertools.islice(rows, rows_per_shard)), [])
    return write_chunks(chunks, folder, split=split, replace=replace)


def write_chunks(
    chunks: Iterable[Sequence[Sample]], folder: str | Path, *, split: str, replace: bool = False
) -> list[Path]:
    """As `write_shards`, with one shard for each of `chunks`.

    One row group a shard, so a shard is what one unit reads; page checksums are on. Returns the paths in order.
    Raises DataError when the folder holds shards of that split already: left-overs of a longer conversion would
    silently join this one. replace: write over them, for a conversion that is begun again with the same samples.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    present = sorted(path.name for path in folder.glob(f"{split}-*.parquet"))
    if present and not replace:
        raise DataError(
            f"folder {folder}: holds shards of split {split!r} already ({present[0]} ...). Choose an empty folder."
        )
    return [_write_shard(chunk, folder / f"{split}-{number:05d}.parquet") for number, chunk in enumerate(chunks)]


def samples_table(samples: Sequence[Sample]) -> pa.Table:
    """Samples as a table of `schemas/sample.v1.json`."""
    return pa.Table.from_pylist([asdict(sample) for sample in samples], schema=load_schema("sample.v1").arrow_schema)


def _write_shard(samples: Sequence[Sample], path: Path) -> Path:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        pq.write_table(
            samples_table(samples),
            file,
            row_group_size=len(samples),
            compression="zstd",
            use_dictionary=False,
            write_page_checksum=True,
        )
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return path
