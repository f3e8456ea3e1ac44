"""Writes deep testbed samples as a sample dataset that every job reads.

python -m rampipe.testbed.deep.dataset --out runs/deep/needles --split select --count 32
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rampipe.tables.shards import write_shards
from rampipe.testbed.deep.samples import SIZES, TASKS, generate_deep_samples
from rampipe.testbed.domains import SPLITS


def write_deep_samples(
    folder: Path | str,
    *,
    split: str,
    count_per_task: int,
    seed: int,
    size: str = "medium",
    tasks: Sequence[str] = TASKS,
) -> list[Path]:
    """Writes `<folder>/<split>-<size>-00000.parquet` and on, the tasks taking turns row by row. Returns the shards.

    A job's split is then `eval-long`, or `eval` for all sizes in the folder.

    The same arguments give the same bytes, so an interrupted call is simply repeated. Raises ConfigError as
    `generate_deep_samples` does.
    """
    streams = [
        generate_deep_samples(task=task, split=split, count=count_per_task, seed=seed, size=size) for task in tasks
    ]
    taking_turns = (sample for turn in zip(*streams, strict=True) for sample in turn)
    return write_shards(taking_turns, folder, split=f"{split}-{size}", rows_per_shard=48, replace=True)


def main() -> None:
    """Parses the command line and writes one split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that receives the shards")
    parser.add_argument("--split", choices=SPLITS, default="select")
    parser.add_argument("--count", type=int, default=32, help="samples of each task (default 32)")
    parser.add_argument("--size", choices=tuple(SIZES), default="medium", help="length of the contexts")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, help="kinds of task (default all)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shards = write_deep_samples(
        options.out,
        split=options.split,
        count_per_task=options.count,
        seed=options.seed,
        size=options.size,
        tasks=options.tasks,
    )
    print(f"{options.count * len(options.tasks)} samples of split {options.split} in {len(shards)} shards")


if __name__ == "__main__":
    main()
