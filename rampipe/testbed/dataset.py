"""Writes testbed samples as a sample dataset: a folder of Parquet shards that `capture` reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rampipe.tables.schema import load_schema
from rampipe.testbed.domains import DOMAIN_NAMES
from rampipe.testbed.samples import generate_samples
from rampipe.types import Sample


def write_samples(
    folder: Path | str,
    *,
    split: str,
    count_per_domain: int,
    seed: int,
    shard_rows: int = 64,
    grid: tuple[int, int] | None = None,
) -> list[Path]:
    """Writes `<folder>/<split>-00000.parquet` and on, the domains taking turns row by row. Returns the shards.

    The same arguments give the same rows. Raises ConfigError as `generate_samples` does.
    """
    streams = [
        generate_samples(domain=name, split=split, count=count_per_domain, seed=seed, grid=grid)
        for name in DOMAIN_NAMES
    ]
    interleaved = (sample for turn in zip(*streams, strict=True) for sample in turn)
    return write_shards(Path(folder), interleaved, split=split, shard_rows=shard_rows)


def write_shards(folder: Path, samples: Iterable[Sample], *, split: str, shard_rows: int) -> list[Path]:
    """Writes any samples as shards of shard_rows rows (the last one shorter), each one row group, one in memory.

    A shard appears whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    schema = load_schema("sample.v1").arrow_schema
    shards: list[Path] = []
    for number, rows in enumerate(chunks(samples, shard_rows)):
        shard = folder / f"{split}-{number:05d}.parquet"
        table = pa.Table.from_pylist([asdict(sample) for sample in rows], schema=schema)
        partial = shard.with_name(f".{shard.name}.partial")
        pq.write_table(table, partial, row_group_size=shard_rows)
        partial.replace(shard)
        shards.append(shard)
    return shards


def chunks(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """Lists of `size` samples, the last one shorter."""
    stream = iter(samples)
    while rows := list(islice(stream, size)):
        yield rows
