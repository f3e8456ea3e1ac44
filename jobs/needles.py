"""The built-in needles as a sample dataset: `python -m jobs.needles --out needles`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from jobs.command import run
from rampipe.errors import ConfigError
from rampipe.testbed.dataset import write_samples
from rampipe.testbed.domains import DOMAIN_NAMES

EXAMPLES = (
    "python -m jobs.needles --out runs/demo/needles --split select",
    "python -m jobs.needles --out needles --split eval --count 256 --seed 1",
)


def needles(arguments: argparse.Namespace) -> int:
    folder, split = Path(arguments.out), arguments.split
    wanted = arguments.count * len(DOMAIN_NAMES)
    present = sum(pq.read_metadata(path).num_rows for path in folder.glob(f"{split}-*.parquet"))
    if present not in (0, wanted) and not arguments.resume:
        raise ConfigError(
            f"--out {folder}: holds {present} samples of split {split!r}, not {wanted}. Use another folder."
        )
    if present != wanted:
        write_samples(folder, split=split, count_per_domain=arguments.count, seed=arguments.seed)
    print(f"needles: {wanted} samples of split {split!r} in {folder}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser(
        prog="python -m jobs.needles",
        description="Draw the testbed's needles: four domains, held-out needles in select and eval.",
        epilog="examples:\n" + "\n".join(f"  {example}" for example in EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--out", metavar="DIR", required=True, help="folder that receives the shards")
    made.add_argument("--split", choices=("train", "select", "eval"), default="select")
    made.add_argument("--count", metavar="N", type=int, default=64, help="samples of each domain (default 64)")
    made.add_argument("--seed", type=int, default=0)
    return run(needles, made, argv)


if __name__ == "__main__":
    sys.exit(main())
