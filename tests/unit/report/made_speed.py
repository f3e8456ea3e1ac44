"""A speed stage of made answers and timings: the ratios are known."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import polars as pl

from rampipe.config import AblateConfig, SpeedConfig
from rampipe.heads.plan import make_plan
from rampipe.heads.speed.stage import speed_stage
from rampipe.tables.arms import Arm
from rampipe.tables.run import Run
from tests.unit.heads.made_outcomes import Answer, made_outcomes
from tests.unit.heads.made_ranking import made_ranking, random_means
from tests.unit.heads.made_runs import written_outcomes, written_timings

CONFIG = SpeedConfig(full_fracs=(0.0, 0.05, 0.1, 1.0), seeds=2, timed_seeds=1, context_tokens=(512, 2048))
TOP = "top-0.05-hybrid-all"


def keeps(arm: Arm, index: int) -> bool:
    """The top 5 % keep all answers but one, more of them all, others half."""
    if arm.is_base or (arm.strategy == "top" and arm.query_head_frac > 0.06):
        return True
    return index >= (1 if arm.strategy == "top" and arm.num_heads else 20 + (arm.seed or 0))


def publish_speed(
    run: Run, *, answer: Answer = keeps, devices: Sequence[str] = ("cpu",), failed: Collection[str] = (),
    prefill_s: float = 1.0, config: SpeedConfig = CONFIG,
) -> None:  # fmt: skip
    """Dense takes 2 s for a prefill. Answers are `42` and `not 42`."""
    plan = make_plan(made_ranking({"overall": random_means()}), config, kv_heads=4)
    outcomes = made_outcomes(plan, answer, num_controls=20)
    words = pl.when("correct").then(pl.lit("42")).otherwise(pl.lit("not 42"))
    spoken = outcomes.with_columns(pl.when(pl.col("correct").is_not_null()).then(words).alias("prediction"))
    answered = written_outcomes(run, spoken, plan, folder="speed/answers")
    timed = written_timings(
        run, plan, lengths=config.context_tokens, devices=devices, failed=failed, prefill_s=prefill_s
    )
    sources = {"answers": answered.storage.uri, "timings": timed.storage.uri}
    ablate = AblateConfig(bootstrap_samples=20)
    speed_stage(run.storage.uri, sources, plan, speed=config, ablate=ablate)


def read_speed(run: Run, table: str = "speed") -> pl.DataFrame:
    return pl.read_parquet(f"{run.storage.uri}/speed/{table}.parquet")
