"""Answers and timings of a run to tables beside it: reduced again only when something they come from has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from rampipe.config import AblateConfig, SpeedConfig
from rampipe.heads.plan import arms_table
from rampipe.heads.ranking import to_frame
from rampipe.heads.speed.reduce import Timed, speed_table, untimed
from rampipe.heads.verdict.judge import judge
from rampipe.heads.verdict.stage import commits_of, judge_settings, open_finished
from rampipe.tables.arms import ArmPlan
from rampipe.tables.derived import publish_stage, read_stage, stage_is_current
from rampipe.tables.read import OpenRun
from rampipe.tables.storage import open_storage
from rampipe.tables.timings import timed_arms, timing_id

STAGE = "speed"
SOURCES = ("answers", "timings")


@dataclass(frozen=True, slots=True)
class SpeedTables:
    """speed: of schema speed.v1. accuracy: of the same arms, draws that were not timed included. untimed: what was to
    be timed and is not there.
    """

    speed: pl.DataFrame
    accuracy: pl.DataFrame
    untimed: tuple[Timed, ...]


def speed_stage(
    run_uri: str, sources: Mapping[str, str], plan: ArmPlan, *, speed: SpeedConfig, ablate: AblateConfig
) -> SpeedTables:
    """Publish `<run>/speed/speed`, `accuracy` and `arms` unless they are current.

    sources: folders of the `answers` and the `timings`. ablate: the statistics of the answers; its `allow_partial` is
    for timings too. Raises what `judge` and `speed_table` raise.
    """
    storage = open_storage(run_uri)
    answers, timed = (open_finished(sources[name], allow_partial=ablate.allow_partial) for name in SOURCES)
    settings = judge_settings(ablate)
    made_from = {
        "plan_sha256": plan.sha256,
        "answers": {"run_id": answers.run.run_id, "commits_sha256": commits_of(answers)},
        "timings": {"run_id": timed.run.run_id, "commits_sha256": commits_of(timed)},
        "judge": settings,
    }
    wanted = _wanted(plan, speed)
    if not stage_is_current(storage, STAGE, made_from):
        accuracy, _ = judge(answers.outcomes, plan, **settings)
        made = speed_table(
            timed.timings,
            plan,
            wanted=_measurable(wanted, timed),
            devices=devices_of(timed),
            accuracy=accuracy,
            allow_partial=ablate.allow_partial,
        )
        tables = {"speed": made.to_arrow(), "accuracy": accuracy.to_arrow(), "arms": arms_table(plan)}
        publish_stage(storage, STAGE, tables, made_from)
    tables = {name: to_frame(table) for name, table in read_stage(storage, STAGE).items()}
    found = set(tables["speed"].select("arm_id", "context_tokens").iter_rows())
    return SpeedTables(tables["speed"], tables["accuracy"], tuple(untimed(found, wanted)))


def devices_of(timed: OpenRun) -> dict[str, str]:
    """Name of the device by arm: a unit of timings is one arm, and its commit recorded who timed it."""
    return {unit.shard: timed.commits[unit.unit_id].device for unit in timed.run.units if unit.unit_id in timed.commits}


def _wanted(plan: ArmPlan, config: SpeedConfig) -> set[Timed]:
    arms = timed_arms(plan, timed_seeds=config.timed_seeds)
    return {(arm.arm_id, tokens) for arm in arms for tokens in config.context_tokens}


def _measurable(wanted: set[Timed], timed: OpenRun) -> set[Timed]:
    """Without what became an error row: that is accounted for."""
    failed = set(timed.errors.select("sample_id").collect().get_column("sample_id"))
    return {(arm_id, tokens) for arm_id, tokens in wanted if timing_id(arm_id, tokens) not in failed}
