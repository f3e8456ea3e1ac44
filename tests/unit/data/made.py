"""Small files in the layouts that datasets publish, made for the tests of their sources."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from rampipe.config import DataConfig
from rampipe.data import ReadResult, Source, open_source
from rampipe.errors import SampleError
from rampipe.types import Sample


def picture(width: int = 40, height: int = 30, *, form: str = "PNG", colour: str = "white") -> bytes:
    """Bytes of an image file."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, form)
    return buffer.getvalue()


def put(path: Path, content: bytes | str | Sequence[Any]) -> Path:
    """One file: bytes, text, or a list of values as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        lines = content if isinstance(content, str) else "".join(json.dumps(value) + "\n" for value in content)
        path.write_text(lines, encoding="utf-8")
    return path


def hub_image(data: bytes | None) -> dict[str, Any]:
    """A cell of the Hub's `Image` feature."""
    return {"bytes": data, "path": "a.png"}


def put_table(path: Path, rows: Sequence[dict[str, Any]], *, row_group_size: int = 2) -> Path:
    """One Parquet file, in several row groups as on the Hub."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=row_group_size)
    return path


def source_of(folder: Path, name: str, **keys: Any) -> Source:
    return open_source(DataConfig(source=name, path=str(folder), **keys))


def read_all(source: Source) -> list[ReadResult]:
    """All rows, and proof that a resumed read and the ids agree with one read from the start."""
    results: list[ReadResult] = []
    for shard in source.shards():
        rows = list(source.read(shard.path, 0, shard.num_rows))
        assert [row.row for row in rows] == list(range(shard.num_rows))
        assert source.read_ids(shard.path, 0, shard.num_rows) == [row.sample_id for row in rows]
        if shard.num_rows > 1:
            resumed = list(source.read(shard.path, 1, shard.num_rows))
            assert [(row.row, row.sample_id) for row in resumed] == [(row.row, row.sample_id) for row in rows[1:]]
        results += rows
    return results


def samples_of(source: Source) -> list[Sample]:
    samples: list[Sample] = []
    for result in read_all(source):
        assert isinstance(result.sample, Sample), result.sample
        samples.append(result.sample)
    return samples


def errors_of(source: Source) -> list[SampleError | None]:
    return [result.sample if isinstance(result.sample, SampleError) else None for result in read_all(source)]
