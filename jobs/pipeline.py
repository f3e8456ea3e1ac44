"""Everything, from one configuration: `python -m jobs.pipeline --config FILE.toml`.

Each stage is skipped when its inputs have not changed, so the same command after any interruption goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.ablate import Ablated, ablate_run, plan_ablation
from jobs.command import add_run_flags, parser, run, run_config, run_overrides
from jobs.experiments import Experiment, is_experiment, load_experiments, plan_lines, read_shapes, shape_of
from jobs.several import leave_out, run_several
from jobs.speed import Sped, plan_speed, speed_run, speed_split
from jobs.spreading import make_sum
from jobs.stopping import add_stop_flag, make_watch
from jobs.submission import add_submit_flags, is_submitted
from rampipe.config import RunConfig
from rampipe.engine.ablate import ablation_config
from rampipe.engine.capture import run_capture
from rampipe.engine.examples import write_asked, write_examples
from rampipe.engine.rates import read_rates
from rampipe.errors import ConfigError
from rampipe.heads.claims import Claim, causal, claim_lines, fast, sparse
from rampipe.heads.metrics import check_captured
from rampipe.heads.rank import Ranking, current_ranking, rank_run
from rampipe.heads.summary import print_summary
from rampipe.report.answers import shown_samples
from rampipe.report.page import write_report

EXAMPLES = (
    "python -m jobs.pipeline --config jobs/configs/demo.toml",
    "python -m jobs.pipeline --config my.toml --set model.path=Qwen/Qwen2.5-VL-7B-Instruct --limit 500",
    "python -m jobs.pipeline --config jobs/configs/paper --plan --device 'NVIDIA H200'",
    "python -m jobs.pipeline --config my.toml --out s3://bucket/runs --submit",
)


def pipeline(arguments: argparse.Namespace) -> int:
    if is_experiment(arguments.config):
        return several(arguments)
    config = run_config(arguments)
    check(config)
    if is_submitted(arguments, config, stage="pipeline"):
        return 0
    if arguments.plan:
        plan_pipeline(config)
        return 0
    return 0 if run_stages(config)[1] else 1


def several(arguments: argparse.Namespace) -> int:
    """All runs of a file or folder, one after the other; what is finished is skipped."""
    if arguments.submit:
        raise ConfigError("--submit: several runs are one after the other here. Submit one configuration at a time.")
    found = load_experiments(arguments.config, run_overrides(arguments))
    if arguments.plan:
        rates, folder = read_rates(Path(arguments.rates)), found[0].file.parent
        shapes = read_shapes(folder)
        for one in found:
            print("\n".join(plan_lines(one, shape_of(one, shapes), rates, device=arguments.device)))
        return 0
    for one in found:
        check(one.config)

    def run_one(one: Experiment, others: Sequence[str], shared: bool) -> tuple[str, bool]:
        return run_stages(one.config, ranked_on=one.ranked_on, compared=others, shared=shared)

    return run_several(found, run_one)


def check(config: RunConfig) -> None:
    """What can be known to be wrong before anything starts. Raises ConfigError."""
    make_watch(config)
    check_captured(config.rank.metric, config.capture)
    if config.ablate.split is not None:
        ablation_config(config)
    if config.speed.split is not None:
        speed_split(config)


def run_stages(
    config: RunConfig, *, ranked_on: RunConfig | None = None, compared: Sequence[str] = (), shared: bool = False
) -> tuple[str, bool]:
    """Every stage of one run; its folder, and whether nothing was left undone.

    ranked_on: the configuration whose heads are chosen, where `config` only tries them on other data.
    compared: folders of other runs whose rankings its own is compared with. shared: other experiments publish into the
    run too; only this one's tables are left there.
    """
    captured = ranked_on or config
    outcome = run_capture(captured, make_watch=make_watch(captured))
    ranking = rank_run([outcome.run_uri, *compared], captured.rank, sum_up=make_sum(captured.rank))
    if shared:
        leave_out(config, outcome.run_uri)
    ablated = None if config.ablate.split is None else ablate_run(config, outcome.run_uri, ranking)
    sped = None if config.speed.split is None else speed_run(config, outcome.run_uri, ranking)
    write_examples(captured, outcome.run_uri, ranking.core_heads())
    if ablated is not None:
        shown = shown_samples(outcome.run_uri)
        write_asked(config, outcome.run_uri, shown, ranking.core_heads(), split=config.ablate.split)
    page = write_report(outcome.run_uri)
    print_summary(ranking)
    print(f"run: {outcome.run_uri}\nreport: {page}")
    print("\n".join(claim_lines(claims_of(ranking, ablated, sped))))
    return outcome.run_uri, all(stage is None or stage.complete for stage in (outcome, ablated, sped))


def claims_of(ranking: Ranking, ablated: Ablated | None, sped: Sped | None) -> list[Claim]:
    """What the stages that ran say about the three claims."""
    accuracy = None if ablated is None else ablated.accuracy
    tables = (None, None) if sped is None else (sped.tables.speed, sped.tables.accuracy)
    return [sparse(ranking), causal(accuracy, k_frac=ranking.config.k_frac), fast(*tables)]


def plan_pipeline(config: RunConfig) -> None:
    """Print what is left of each stage."""
    outcome = run_capture(config, plan_only=True)
    ranking = current_ranking(outcome.run_uri, config.rank) if outcome.complete else None
    if config.ablate.split is not None:
        plan_ablation(config, outcome.run_uri, ranking)
    if config.speed.split is not None:
        plan_speed(config, outcome.run_uri, ranking)


def main(argv: Sequence[str] | None = None) -> int:
    made = parser(
        "pipeline", about="Capture, rank, ablate, time and report; finished stages are skipped.", examples=EXAMPLES
    )
    add_run_flags(made)
    made.add_argument("--device", default="NVIDIA H200", help="--plan of several runs: whose GPU-hours are told")
    made.add_argument("--rates", default="benchmarks/rates.json", metavar="FILE", help="measured rates for --plan")
    add_stop_flag(made)
    add_submit_flags(made)
    return run(pipeline, made, argv)


if __name__ == "__main__":
    sys.exit(main())
