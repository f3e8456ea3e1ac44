"""Shards in the sample schema, domains taking turns."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from rampipe.tables.schema import load_schema
from rampipe.testbed.dataset import write_samples
from rampipe.testbed.domains import DOMAIN_NAMES
from rampipe.testbed.samples import generate_samples


def write(folder: Path, *, seed: int = 3) -> list[Path]:
    return write_samples(folder, split="select", count_per_domain=5, seed=seed, shard_rows=8, grid=(2, 2))


def test_shards_follow_the_schema_and_keep_the_samples(tmp_path: Path) -> None:
    shards = write(tmp_path)
    assert [shard.name for shard in shards] == [f"select-{number:05d}.parquet" for number in range(3)]
    tables = [pq.read_table(shard) for shard in shards]
    assert [table.num_rows for table in tables] == [8, 8, 4]
    for shard, table in zip(shards, tables, strict=True):
        load_schema("sample.v1").check(table.schema, source=shard.name)
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["domain"] for row in rows] == list(DOMAIN_NAMES) * 5
    sample = next(iter(generate_samples(domain="receipt", split="select", count=1, seed=3, grid=(2, 2))))
    assert rows[1]["sample_id"] == sample.sample_id
    assert rows[1]["images"][0] == {"bytes": sample.images[0].bytes, "path": None}
    assert tuple(rows[1]["evidence"][0]["box"]) == sample.evidence[0].box
    assert rows[1]["choices"] is None


def test_the_same_arguments_give_the_same_files_and_another_seed_does_not(tmp_path: Path) -> None:
    first, again = write(tmp_path / "first"), write(tmp_path / "again")
    other = write(tmp_path / "other", seed=4)
    assert [shard.read_bytes() for shard in first] == [shard.read_bytes() for shard in again]
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(first, other, strict=True))
