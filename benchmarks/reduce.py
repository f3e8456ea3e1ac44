"""Reducing a run to sums per head, against Polars' bare group-by mean of the same columns of the same files, in turns.

python benchmarks/reduce.py --rows 20000000

Writes a made-up run of 36 layers x 32 heads once, then times on the same files: our reduction of `ram` alone (exact
sums, pages verified, keys checked, by domain) and Polars' mean of its one column; our reduction as a ranking wants it,
with the masses that the class of a head needs, and Polars' mean of these three columns; and the whole ranking (1,000
bootstrap replicates and 100 split halves for every domain).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rampipe.config import RankConfig
from rampipe.heads.blocks import ELSEWHERE
from rampipe.heads.metrics import metric_by_id
from rampipe.heads.ranking import rank_scope
from rampipe.heads.reduce import reduce_metric
from rampipe.heads.scopes import iterate_scopes
from rampipe.tables.columns import CommittedTable
from rampipe.tables.parquet import to_bytes
from rampipe.tables.rows import GroupStatistics, SampleResult, head_stats_table, samples_table
from rampipe.tables.schema import TableSchema, latest_schema, list_schemas, load_schema
from rampipe.tables.storage import open_storage
from rampipe.types import REGIONS

LAYERS, HEADS, UNIT_SAMPLES = 36, 32, 64
NUM_BLOCKS = 16
DOMAINS = ("chart", "glyph", "receipt", "table")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the files here, and use those that are there")
    return parser.parse_args()


def made_up(block: int) -> tuple[pa.Table, pa.Table]:
    """`head_stats` and `samples` of 64 samples, each with a context of its own."""
    masses = np.random.default_rng(block).dirichlet(np.full(len(REGIONS) - 1, 0.5), size=(UNIT_SAMPLES, LAYERS, HEADS))
    padded = np.concatenate([masses, np.zeros((*masses.shape[:3], 1))], axis=-1).astype(np.float32)
    results = [
        SampleResult(
            sample_id=f"{place:03d}",
            domain=DOMAINS[place % len(DOMAINS)],
            context_key=f"{place:08x}",
            num_tokens=1000,
            region_counts={"evidence": 4},
            groups={"question": group},
        )
        for place, group in enumerate(map(statistics_of, padded))
    ]
    return head_stats_table(results), samples_table(results)


def statistics_of(mass: np.ndarray) -> GroupStatistics:
    """One sample's rows of one query group."""
    return GroupStatistics(
        layers=np.arange(LAYERS, dtype=np.int16),
        mass=mass,
        peak_evidence=mass[:, :, 0] * 0.5,
        hit=(mass[:, :, 0] > 0.5).astype(np.float32),
        entropy_nats=mass[:, :, 1] * 3,
        mass_evidence_null=mass[:, :, 0] * 0.1,
        has_evidence=True,
        has_learned_sink=False,
    )


def named(table: pa.Table, unit: int) -> pa.Table:
    """The table with the names of another unit's samples."""
    for name, prefix in (("sample_id", f"made/up/{unit:06d}-"), ("context_key", f"{unit:08x}")):
        if name in table.column_names:
            column = table.column(name).cast(pa.string())
            texts = pc.binary_join_element_wise(prefix, column, "")  # pyright: ignore[reportAttributeAccessIssue]
            table = table.set_column(table.column_names.index(name), name, texts)
    return table.cast(latest_schema("head_stats" if "head" in table.column_names else "samples").arrow_schema)


def write_files(folder: Path, num_rows: int) -> list[str]:
    """Files of a run of at least so many rows; returns their names. Numbers repeat every NUM_BLOCKS files."""
    num_units = -(-num_rows // (UNIT_SAMPLES * LAYERS * HEADS))
    names = [f"head_stats/unit-{unit:06d}.parquet" for unit in range(num_units)]
    for name in ("head_stats", "samples"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    blocks = [made_up(block) for block in range(NUM_BLOCKS)]
    for unit, name in enumerate(names):
        head_stats, samples = (named(table, unit) for table in blocks[unit % NUM_BLOCKS])
        for path, table in ((name.replace("head_stats", "samples"), samples), (name, head_stats)):
            if not (folder / path).exists():
                (folder / f"{path}.part").write_bytes(to_bytes(table, metadata={}))
                (folder / f"{path}.part").rename(folder / path)
    return names


def peak_bytes() -> int:
    """Most memory that the process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def schema_of(path: Path) -> TableSchema:
    """The version of `head_stats` that a file has, which was perhaps kept from an earlier one."""
    names = pq.read_schema(path).names
    versions = [load_schema(found) for found in list_schemas() if found.startswith("head_stats.")]
    return next(schema for schema in versions if [column.name for column in schema.columns] == names)


def made_arms(folder: Path, names: list[str]) -> dict[str, Callable[[], object]]:
    """What is timed, in turns."""
    paths = [str(folder / name) for name in names]
    samples = pl.scan_parquet([path.replace("head_stats", "samples") for path in paths], glob=False)
    schema = schema_of(folder / names[0])
    parts = [CommittedTable(open_storage(str(folder)), name, schema) for name in names]
    ram = metric_by_id("ram")

    def group_by(*columns: str) -> pl.DataFrame:
        rows = pl.scan_parquet(paths, glob=False).group_by("layer", "head")
        return rows.agg(pl.col(*columns).mean()).collect(engine="streaming")

    def rank() -> None:
        for scope in iterate_scopes(reduce_metric(parts, samples, ram)):
            rank_scope(scope, "ram", RankConfig())

    return {
        "reduce ram": lambda: reduce_metric(parts, samples, ram, elsewhere=False),
        "reduce for a ranking": lambda: reduce_metric(parts, samples, ram),
        "reduce and rank": rank,
        "group-by of 1": lambda: group_by("mass_evidence"),
        "group-by of 3": lambda: group_by("mass_evidence", *ELSEWHERE),
    }


COMPARED = (
    ("reduce ram", "group-by of 1"),
    ("reduce for a ranking", "group-by of 3"),
    ("reduce and rank", "group-by of 3"),
    ("reduce and rank", "group-by of 1"),
)
"""Like against like, but for the last."""


def compare(arms: dict[str, Callable[[], object]], num_files: int, repeats: int) -> None:
    """All in turns; ratios within a repetition."""
    seconds = {name: list[tuple[float, float]]() for name in arms}
    for repeat in range(repeats + 1):
        for name, arm in arms.items():
            start, started = time.perf_counter(), time.process_time()
            arm()
            if repeat > 0:
                seconds[name].append((time.perf_counter() - start, time.process_time() - started))
            elif name == "reduce and rank":  # before Polars has its turn
                print(f"peak of memory up to the first ranking: {peak_bytes() / 2**30:.2f} GiB")
    num_rows = num_files * UNIT_SAMPLES * LAYERS * HEADS
    for kind, what in enumerate(("s", "s of processor")):
        medians = {name: round(statistics.median(pair[kind] for pair in pairs), 3) for name, pairs in seconds.items()}
        print(f"{num_rows:,} rows in {num_files} files: median {what} {medians}")
        for ours, theirs in COMPARED:
            ratios = sorted(a[kind] / b[kind] for a, b in zip(seconds[ours], seconds[theirs], strict=True))
            print(f"{ours}: {statistics.median(ratios):.2f} x {theirs} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def main() -> None:
    """Measure what the command line names."""
    arguments = parse()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        names = write_files(folder, arguments.rows)
        compare(made_arms(folder, names), len(names), arguments.repeats)


if __name__ == "__main__":
    main()
