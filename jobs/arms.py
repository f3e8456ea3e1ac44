"""What the jobs that try arms of heads share: their flags, and a plan for samples that did not make the ranking."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from rampipe.config import AblateConfig, RunConfig, SpeedConfig
from rampipe.engine.plan import count_kv_heads
from rampipe.heads.plan import check_disjoint_samples, make_plan
from rampipe.heads.rank import Ranking
from rampipe.tables.arms import ArmPlan
from rampipe.tables.read import open_run
from rampipe.types import HeadId


def add_arm_flags(made: argparse.ArgumentParser) -> None:
    """Flags of the jobs that start from a ranked run."""
    made.add_argument("run", metavar="RUN", help="run folder or s3:// prefix, captured and ranked")
    made.add_argument("--limit", metavar="N", type=int, help="only the first N samples")
    made.add_argument("--plan", action="store_true", help="print arms, units and time, start nothing")
    made.set_defaults(out=None)


def plan_arms(
    config: RunConfig,
    section: AblateConfig | SpeedConfig,
    ranking: Ranking,
    *,
    idle: frozenset[HeadId] | None = None,
) -> ArmPlan:
    """The arms of a section of the configuration; those that cannot be had are printed. idle: found by the screen."""
    plan = make_plan(ranking, section, kv_heads=count_kv_heads(config), idle=idle)
    for skipped in plan.skipped:
        print(f"arm {skipped.arm_id} is skipped: {skipped.reason}")
    return plan


def check_other_samples(config: RunConfig, run_uri: str, evaluated: Iterable[str], *, key: str) -> None:
    """Raises ConfigError when evaluated samples made the ranking, unless ablate.allow_same_samples.

    key: of the configuration, names the evaluated split.
    """
    ranked = open_run(run_uri).samples.select("sample_id").collect().get_column("sample_id").to_list()
    check_disjoint_samples(ranked, list(evaluated), allow=config.ablate.allow_same_samples, key=key)
