"""A ranking to accuracies without its heads: `python -m jobs.ablate RUN --config FILE.toml`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from jobs.arms import add_arm_flags, check_other_samples, plan_arms
from jobs.command import parser, run, run_config
from jobs.screen import plan_screen, screen_run
from jobs.spreading import make_sum
from jobs.submission import add_submit_flags, is_submitted
from rampipe.config import RunConfig
from rampipe.engine.ablate import FOLDER, ablation_config, evaluated_ids, run_ablation
from rampipe.engine.plan import make_ablation_spec
from rampipe.engine.preview import describe_stage
from rampipe.heads.rank import Ranking, current_ranking, rank_run
from rampipe.heads.screen import needs_screen
from rampipe.heads.verdict.sentences import verdict_lines
from rampipe.heads.verdict.stage import base_line, judge_stage

ABOUT = """Judge a ranking by silencing its heads; resumes where it stopped.

With strategy bottom_idle, the lowest heads are screened first: the lower half of the ranking is cut into at most 32
bands, each is silenced alone on the text-only samples of ablate.screen_split, and bands that cost more than 0.02 of
right answers, or 0.02 nats per token, are needed. bottom_idle is the lowest of the others, bottom the lowest of all."""
EXAMPLES = (
    "python -m jobs.ablate runs/demo/<run_id> --config jobs/configs/demo.toml",
    "python -m jobs.ablate runs/demo/<run_id> --config my.toml --set ablate.split=eval --set ablate.fracs=[0.05]",
    "python -m jobs.ablate runs/demo/<run_id> --config my.toml --set ablate.screen_split=control \\\n"
    '    --set \'ablate.strategies=["top","bottom","bottom_idle","layer_matched_random"]\'',
    "python -m jobs.ablate runs/demo/<run_id> --config my.toml --plan",
)


@dataclass(frozen=True, slots=True)
class Ablated:
    """accuracy: of every arm, as it was published. complete: whether all is done."""

    accuracy: pl.DataFrame
    complete: bool


def ablate_run(config: RunConfig, run_uri: str, ranking: Ranking) -> Ablated:
    """Plan, run, judge, publish `ablation/accuracy` and `ablation/arms`, and print the verdict."""
    ablation_config(config)
    idle = screen_run(config, run_uri, ranking) if needs_screen(config.ablate) else None
    plan = plan_arms(config, config.ablate, ranking, idle=idle)
    check_other_samples(config, run_uri, evaluated_ids(config), key="ablate.split")
    outcome = run_ablation(config, run_uri, plan)
    accuracy = judge_stage(run_uri, outcome.run_uri, plan, config.ablate, stage=FOLDER)
    for line in (base_line(accuracy, plan), *verdict_lines(accuracy, plan, confidence=config.ablate.confidence)):
        print(line)
    return Ablated(accuracy, outcome.complete)


def plan_ablation(config: RunConfig, run_uri: str, ranking: Ranking | None) -> None:
    """Print what `ablate_run` would do."""
    ready = ablation_config(config)
    if ranking is None:
        print(f"{FOLDER}: arms are unknown until {run_uri} is captured and ranked")
        return
    idle = plan_screen(config, run_uri, ranking) if needs_screen(config.ablate) else None
    plan = plan_arms(config, config.ablate, ranking, idle=idle)
    spec = make_ablation_spec(ready, plan)
    work = f"{len(plan.arms)} arms x {sum(unit.num_samples for unit in spec.units)} samples"
    print(describe_stage(config, run_uri, spec, folder=FOLDER, work=work))


def ablate(arguments: argparse.Namespace) -> int:
    config = run_config(arguments)
    ablation_config(config)
    if is_submitted(arguments, config, stage="ablate", runs=[arguments.run]):
        return 0
    if arguments.plan:
        plan_ablation(config, arguments.run, current_ranking(arguments.run, config.rank))
        return 0
    ranking = rank_run(arguments.run, config.rank, sum_up=make_sum(config.rank))
    return 0 if ablate_run(config, arguments.run, ranking).complete else 1


def main(argv: Sequence[str] | None = None) -> int:
    made = parser("ablate", about=ABOUT, examples=EXAMPLES)
    add_arm_flags(made)
    add_submit_flags(made)
    return run(ablate, made, argv)


if __name__ == "__main__":
    sys.exit(main())
