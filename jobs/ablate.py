"""A ranking to accuracies without its heads: `python -m jobs.ablate RUN --config FILE.toml`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import polars as pl

from jobs.command import parser, run, run_config
from rampipe.config import RunConfig
from rampipe.engine.ablate import FOLDER, ablation_config, evaluated_ids, run_ablation
from rampipe.engine.plan import count_kv_heads
from rampipe.heads.plan import arms_table, check_disjoint_samples, make_plan
from rampipe.heads.rank import Ranking, rank_run
from rampipe.heads.ranking import to_frame
from rampipe.heads.verdict.judge import judge
from rampipe.heads.verdict.sentences import verdict_lines
from rampipe.tables.arms import ArmPlan
from rampipe.tables.derived import publish_stage, read_stage, stage_is_current
from rampipe.tables.finish import read_success
from rampipe.tables.read import OpenRun, open_run
from rampipe.tables.storage import open_storage

EXAMPLES = (
    "python -m jobs.ablate runs/demo/<run_id> --config jobs/configs/demo.toml",
    "python -m jobs.ablate runs/demo/<run_id> --config my.toml --set ablate.split=eval --set ablate.fracs=[0.05]",
)


def ablate_run(config: RunConfig, run_uri: str, ranking: Ranking) -> bool:
    """Plan, run, judge, publish `ablation/accuracy` and `ablation/arms`, and print the verdict. Whether all is done."""
    ablation_config(config)
    plan = make_plan(ranking, config.ablate, kv_heads=count_kv_heads(config))
    for skipped in plan.skipped:
        print(f"arm {skipped.arm_id} is skipped: {skipped.reason}")
    ranked = open_run(run_uri).samples.select("sample_id").collect().get_column("sample_id").to_list()
    check_disjoint_samples(ranked, list(evaluated_ids(config)), allow=config.ablate.allow_same_samples)
    outcome = run_ablation(config, run_uri, plan)
    for line in _judged(config, run_uri, plan, open_run(outcome.run_uri)):
        print(line)
    return outcome.complete


def _judged(config: RunConfig, run_uri: str, plan: ArmPlan, outcomes: OpenRun) -> list[str]:
    storage = open_storage(run_uri)
    success = read_success(outcomes.run.storage)
    names = ("bootstrap_samples", "confidence", "seed", "allow_partial")
    settings = {name: getattr(config.ablate, name) for name in names}
    made_from = {
        "plan_sha256": plan.sha256,
        "outcomes": outcomes.run.run_id,
        "commits_sha256": None if success is None else success.commits_sha256,
        "judge": settings,
    }
    if not stage_is_current(storage, FOLDER, made_from):
        accuracy, _ = judge(outcomes.outcomes, plan, **settings)
        tables = {"accuracy": accuracy.to_arrow(), "arms": arms_table(plan)}
        publish_stage(storage, FOLDER, tables, made_from)
    accuracy = to_frame(read_stage(storage, FOLDER)["accuracy"])
    base = accuracy.filter(pl.col("arm_id") == plan.base.arm_id).row(0, named=True)
    told = f"base: {base['num_correct']} of {base['num_samples']} right"
    return [told, *verdict_lines(accuracy, plan, confidence=config.ablate.confidence)]


def ablate(arguments: argparse.Namespace) -> int:
    config = run_config(arguments)
    return 0 if ablate_run(config, arguments.run, rank_run(arguments.run, config.rank)) else 1


def main(argv: Sequence[str] | None = None) -> int:
    made = parser(
        "ablate", about="Judge a ranking by silencing its heads; resumes where it stopped.", examples=EXAMPLES
    )
    made.add_argument("run", metavar="RUN", help="run folder or s3:// prefix, captured and ranked")
    made.add_argument("--limit", metavar="N", type=int, help="only the first N samples")
    made.set_defaults(out=None)
    return run(ablate, made, argv)


if __name__ == "__main__":
    sys.exit(main())
