"""Writes testbed samples as a sample dataset: a folder of Parquet shards that `capture` reads."""

from __future__ import annotations

from pathlib import Path

from rampipe.tables.shards import write_shards
from rampipe.testbed.domains import DOMAIN_NAMES
from rampipe.testbed.samples import generate_samples


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

    The same arguments give the same bytes, so an interrupted call is simply repeated. Raises ConfigError as
    `generate_samples` does.
    """
    streams = [
        generate_samples(domain=name, split=split, count=count_per_domain, seed=seed, grid=grid)
        for name in DOMAIN_NAMES
    ]
    interleaved = (sample for turn in zip(*streams, strict=True) for sample in turn)
    return write_shards(interleaved, folder, split=split, rows_per_shard=shard_rows, replace=True)
