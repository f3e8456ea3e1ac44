"""Outcomes of a run to tables beside it: judged once, and again only when something they come from has changed."""

from __future__ import annotations

from typing import Any

import polars as pl

from rampipe.config import AblateConfig
from rampipe.errors import IncompleteError
from rampipe.heads.plan import arms_table
from rampipe.heads.ranking import to_frame
from rampipe.heads.verdict.judge import judge
from rampipe.tables.arms import ArmPlan
from rampipe.tables.derived import publish_stage, read_stage, stage_is_current
from rampipe.tables.finish import read_success
from rampipe.tables.read import OpenRun, open_run
from rampipe.tables.storage import open_storage

_SETTINGS = ("bootstrap_samples", "confidence", "seed", "allow_partial")


def judge_stage(run_uri: str, outcomes_uri: str, plan: ArmPlan, config: AblateConfig, *, stage: str) -> pl.DataFrame:
    """Publish `<run>/<stage>/accuracy` and `arms` unless they are current. Returns the accuracy.

    Raises IncompleteError for outcomes that are not finished, unless `config.allow_partial`, and what `judge` raises.
    """
    storage, opened = open_storage(run_uri), open_finished(outcomes_uri, allow_partial=config.allow_partial)
    settings = judge_settings(config)
    made_from = {
        "plan_sha256": plan.sha256,
        "outcomes": opened.run.run_id,
        "commits_sha256": commits_of(opened),
        "judge": settings,
    }
    if not stage_is_current(storage, stage, made_from):
        accuracy, _ = judge(opened.outcomes, plan, **settings)
        publish_stage(storage, stage, {"accuracy": accuracy.to_arrow(), "arms": arms_table(plan)}, made_from)
    return to_frame(read_stage(storage, stage)["accuracy"])


def open_finished(uri: str, *, allow_partial: bool) -> OpenRun:
    """Answers or timings to be reduced; every file is hashed.

    Raises IncompleteError when they are not whole, unless `allow_partial`.
    """
    opened = open_run(uri, check="sha256")
    account = opened.balance
    if account.problems and not allow_partial:
        raise IncompleteError(
            f"{uri} is not finished: {account.num_committed} of {account.num_units} units; "
            f"{'; '.join(account.problems[:3])}. Run the job again, which goes on where it stopped, or set "
            "ablate.allow_partial = true."
        )
    return opened


def judge_settings(config: AblateConfig) -> dict[str, Any]:
    """What of the configuration decides the numbers of `judge`."""
    return {name: getattr(config, name) for name in _SETTINGS}


def commits_of(opened: OpenRun) -> str | None:
    """Identity of a run's rows; null before it is finished."""
    success = read_success(opened.run.storage)
    return None if success is None else success.commits_sha256


def base_line(accuracy: pl.DataFrame, plan: ArmPlan) -> str:
    """How the untouched model answers."""
    base = accuracy.filter(pl.col("arm_id") == plan.base.arm_id).row(0, named=True)
    return f"base: {base['num_correct']} of {base['num_samples']} right"
