"""The deep testbed's claims, measured by the jobs that users run: `python -m jobs.deep_testbed --out runs/deep`.

In both prompt orders: capture and rank on medium contexts, ablate on short and medium ones, then hybrid attention on
long ones, with all text kept and without. Finished stages are skipped, so the same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import polars as pl
import pyarrow.parquet as pq

from jobs.ablate import ablate_run
from jobs.command import parser, run, run_overrides
from jobs.speed import speed_run
from rampipe.config import PromptConfig, RunConfig, load_config
from rampipe.engine.capture import run_capture
from rampipe.errors import DataError
from rampipe.heads.rank import Ranking, rank_run
from rampipe.heads.verdict.outcomes import CONTROL
from rampipe.testbed.deep.architecture import NUM_LAYERS
from rampipe.testbed.deep.dataset import write_deep_samples
from rampipe.testbed.deep.samples import TASKS
from rampipe.testbed.domains import DOMAIN_NAMES

CONFIG = Path(__file__).parent / "configs" / "deep_testbed.toml"
ORDERS: tuple[str, ...] = get_args(PromptConfig.model_fields["order"].annotation)
METRICS = {"context_first": "ram", "question_first": "ram_last"}
"""With the question first none of its rows sees the evidence."""
KINDS = {**dict.fromkeys(DOMAIN_NAMES, "image"), "text": "text", CONTROL: "echo"}
"""What the scopes of an accuracy table are about."""
SHARES = {"short": 1, "medium": 2, "long": 4}
"""Of longer contexts there are so many times fewer."""
NUM_SCREENED = 64
"""Samples of the control: one answer is less than what a head that it does not need may cost."""
EXAMPLES = (
    "python -m jobs.deep_testbed --out runs/deep",
    "python -m jobs.deep_testbed --out runs/mine --set model.path=runs/deep/checkpoint --count 96",
)


def write_needles(folder: Path, *, count: int) -> None:
    """The ranked split `select`, contexts with evidence; `train-short`, the text-only control alone, for the screen of
    the lowest heads; and a split of each size to be judged on. What an interrupted call left is completed.

    Ranked on medium contexts: in short ones a head that looks everywhere alike has RAM too.
    Raises DataError when the folder holds more needles than are asked for.
    """
    with_evidence = [task for task in TASKS if task != "echo"]
    write_split(folder, split="train", size="short", count=max(NUM_SCREENED, count), tasks=["echo"])
    write_split(folder, split="select", size="medium", count=count, tasks=with_evidence)
    for size, share in SHARES.items():
        write_split(folder, split="eval", size=size, count=max(1, count // share), tasks=TASKS)


def write_split(folder: Path, *, split: str, size: str, count: int, tasks: Sequence[str]) -> None:
    """So many samples of each task, unless they are there."""
    shards = folder.glob(f"{split}-{size}-*.parquet")
    found, wanted = sum(pq.read_metadata(shard).num_rows for shard in shards), count * len(tasks)
    if found > wanted:
        raise DataError(
            f"{folder} holds {found} samples of split {split}-{size}, asked for are {wanted}: another --count wrote "
            "them. Give the same --count again, or another --out."
        )
    if found < wanted:
        write_deep_samples(folder, split=split, count_per_task=count, seed=0, size=size, tasks=tasks)


def accuracy_table(accuracy: pl.DataFrame) -> pl.DataFrame:
    """Mean accuracy of each kind of arm over its draws, by kind of task; lowest: the worst draw's, on images."""
    known = accuracy.filter(pl.col("scope").is_in(list(KINDS)))
    by_arm = (
        known.with_columns(pl.col("scope").replace(KINDS).alias("task"))
        .group_by("strategy", "frac", "arm_id", "task", maintain_order=True)
        .agg((pl.col("num_correct").sum() / pl.col("num_samples").sum()).alias("accuracy"))
    )
    lowest = (
        by_arm.filter(pl.col("task") == "image")
        .group_by("strategy", "frac", maintain_order=True)
        .agg(pl.col("accuracy").min().alias("lowest image"), pl.len().alias("arms"))
    )
    means = by_arm.pivot("task", index=["strategy", "frac"], values="accuracy", aggregate_function="mean")
    return means.join(lowest, on=["strategy", "frac"], nulls_equal=True, maintain_order="left")


def base_table(accuracy: pl.DataFrame) -> pl.DataFrame:
    """Accuracy of the untouched model on every kind of task."""
    base = accuracy.filter(pl.col("strategy") == "base", pl.col("scope").is_in(list(KINDS)))
    return base.select("scope", "num_samples", pl.col("accuracy").round(3), pl.col("low").round(3), "high")


def depth_line(ranking: Ranking) -> str:
    """Where the CoRe heads are."""
    heads = ranking.core_heads()
    outside = sum(head.layer >= NUM_LAYERS / 3 for head in heads)
    return f"CoRe heads {' '.join(map(str, heads))}: {outside} of {len(heads)} outside the first third of the layers"


def measure(config: RunConfig, overrides: Sequence[str], file: str) -> None:
    """All stages in one prompt order."""
    outcome = run_capture(config)
    ranking = rank_run(outcome.run_uri, config.rank)
    print(f"{config.prompt.order}, {config.rank.metric}: {depth_line(ranking)}", flush=True)
    for size in ("short", "medium"):
        sized = load_config(file, [*overrides, f'ablate.split="eval-{size}"'])
        accuracy = ablate_run(sized, outcome.run_uri, ranking).accuracy
        show(f"{config.prompt.order}, {size}: untouched", base_table(accuracy))
        show(f"{config.prompt.order}, {size}: heads removed", accuracy_table(accuracy))
    for keep_text in ("true", "false"):
        kept = load_config(file, [*overrides, f"speed.keep_text={keep_text}"])
        accuracy = speed_run(kept, outcome.run_uri, ranking).tables.accuracy
        show(f"{config.prompt.order}, long: untouched", base_table(accuracy))
        show(f"{config.prompt.order}, long, text kept {keep_text}: heads kept full", accuracy_table(accuracy))


def show(title: str, table: pl.DataFrame) -> None:
    """One table under its title."""
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        print(f"{title}\n{table.with_columns(pl.col(pl.Float64).round(3))}", flush=True)


def deep_testbed(arguments: argparse.Namespace) -> int:
    file = arguments.config or str(CONFIG)
    chosen = [*run_overrides(arguments)]
    folder = Path(load_config(file, chosen).out) / "needles"
    chosen.append(f'data.path="{folder}"')
    write_needles(folder, count=arguments.count)
    for order in arguments.orders:
        overrides = [f'rank.metric="{METRICS[order]}"', *chosen, f'prompt.order="{order}"']
        measure(load_config(file, overrides), overrides, file)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    made = parser("deep_testbed", about="Measure what the deep testbed's model shows.", examples=EXAMPLES)
    made.add_argument("--out", metavar="DIR", help="folder that receives needles and runs")
    made.add_argument("--count", metavar="N", type=int, default=48, help="samples of each kind (default 48)")
    made.add_argument("--orders", nargs="+", choices=ORDERS, default=ORDERS, help="prompt orders (default both)")
    made.set_defaults(limit=None)
    return run(deep_testbed, made, argv)


if __name__ == "__main__":
    sys.exit(main())
