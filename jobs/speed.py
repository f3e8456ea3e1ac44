"""A ranking to speed with full attention for its heads alone: `python -m jobs.speed RUN --config FILE.toml`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.arms import add_arm_flags, check_other_samples, plan_arms
from jobs.command import parser, run, run_config
from jobs.spreading import make_sum
from jobs.submission import add_submit_flags, is_submitted
from rampipe.config import RunConfig
from rampipe.engine.ablate import ablation_config, evaluated_ids, run_ablation
from rampipe.engine.plan import make_ablation_spec
from rampipe.engine.preview import describe_stage
from rampipe.engine.speed import FOLDER as TIMINGS
from rampipe.engine.speed import run_timings
from rampipe.engine.speed_plan import check_lengths, make_speed_spec, speed_config
from rampipe.heads.rank import Ranking, current_ranking, rank_run
from rampipe.heads.speed.sentences import speed_lines
from rampipe.heads.speed.stage import STAGE, SpeedTables, speed_stage
from rampipe.heads.verdict.stage import base_line

EXAMPLES = (
    "python -m jobs.speed runs/demo/<run_id> --config jobs/configs/demo.toml",
    "python -m jobs.speed runs/demo/<run_id> --config my.toml --set speed.split=eval --set speed.context_tokens=[8192]",
    "python -m jobs.speed runs/demo/<run_id> --config my.toml --plan",
)
ANSWERS = f"{STAGE}/answers"


@dataclass(frozen=True, slots=True)
class Sped:
    """tables: as they were published. complete: whether all is done."""

    tables: SpeedTables
    complete: bool


def speed_run(config: RunConfig, run_uri: str, ranking: Ranking) -> Sped:
    """Plan, answer, time, reduce, publish `speed/speed`, `accuracy` and `arms`, and print what heads gain and cost."""
    split = speed_split(config)
    plan = plan_arms(config, config.speed, ranking)
    check_other_samples(config, run_uri, evaluated_ids(config, split=split), key="speed.split")
    answers = run_ablation(config, run_uri, plan, folder=ANSWERS, split=split)
    timings = run_timings(config, run_uri, plan)
    sources = {"answers": answers.run_uri, "timings": timings.run_uri}
    tables = speed_stage(run_uri, sources, plan, speed=config.speed, ablate=config.ablate)
    for line in (base_line(tables.accuracy, plan), *speed_lines(tables.speed, tables.accuracy, untimed=tables.untimed)):
        print(line)
    return Sped(tables, answers.complete and timings.complete)


def speed_split(config: RunConfig) -> str:
    """The split that is answered and timed. Raises ConfigError when there is none or it cannot be run."""
    split = speed_config(config).data.split
    ablation_config(config, split=split)
    check_lengths(speed_config(config))
    return str(split)


def plan_speed(config: RunConfig, run_uri: str, ranking: Ranking | None) -> None:
    """Print what `speed_run` would do."""
    ready = ablation_config(config, split=speed_split(config))
    if ranking is None:
        print(f"{STAGE}: arms are unknown until {run_uri} is captured and ranked")
        return
    plan = plan_arms(config, config.speed, ranking)
    answers, timings = make_ablation_spec(ready, plan), make_speed_spec(config, plan)
    num_samples = sum(unit.num_samples for unit in answers.units)
    work = f"{len(plan.arms)} arms x {num_samples} samples"
    print(describe_stage(config, run_uri, answers, folder=ANSWERS, work=work))
    lengths, repeats = len(config.speed.context_tokens), config.speed.repeats
    work = f"{len(timings.units)} arms x {lengths} lengths x {repeats} repetitions, beside dense attention"
    print(describe_stage(speed_config(config), run_uri, timings, folder=TIMINGS, work=work))


def speed(arguments: argparse.Namespace) -> int:
    config = run_config(arguments)
    speed_split(config)
    if is_submitted(arguments, config, stage="speed", runs=[arguments.run]):
        return 0
    if arguments.plan:
        plan_speed(config, arguments.run, current_ranking(arguments.run, config.rank))
        return 0
    ranking = rank_run(arguments.run, config.rank, sum_up=make_sum(config.rank))
    return 0 if speed_run(config, arguments.run, ranking).complete else 1


def main(argv: Sequence[str] | None = None) -> int:
    made = parser(
        "speed",
        about="Time a ranking: full attention for its heads alone; resumes where it stopped.",
        examples=EXAMPLES,
    )
    add_arm_flags(made)
    add_submit_flags(made)
    return run(speed, made, argv)


if __name__ == "__main__":
    sys.exit(main())
