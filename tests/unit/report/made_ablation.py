"""A judged ablation of made outcomes: the numbers are the judge's, the answers are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from rampipe.config import AblateConfig
from rampipe.heads.plan import make_plan
from rampipe.heads.screen import idle_heads, screen_config
from rampipe.heads.verdict.sentences import verdict_lines
from rampipe.heads.verdict.stage import judge_stage
from rampipe.tables.arms import Arm
from rampipe.tables.run import Run
from rampipe.types import HeadId
from tests.unit.heads.made_outcomes import Answer, made_outcomes
from tests.unit.heads.made_ranking import made_ranking, random_means
from tests.unit.heads.made_runs import written_outcomes

CONFIG = AblateConfig(fracs=(0.0, 0.02, 0.05, 0.2), seeds=3, bootstrap_samples=50)
WRONG = "not 42"


def answers(arm: Arm, index: int) -> bool:
    """Top heads cost most answers, random ones a few, more where more are silenced; the control set is unharmed.

    Heads that another domain ranks first cost the even samples alone, which are of the first domain.
    """
    if index >= 40:
        return index % 5 != 0
    if arm.strategy == "top" and arm.scope != "overall":
        return index % 2 == 1
    harm = {"top": 36 if arm.query_head_frac > 0.03 else 20, "bottom": 2}
    wrong = harm.get(arm.strategy, 1 if arm.seed is None else 2 + arm.seed + round(20 * arm.query_head_frac))
    return index >= wrong


def silent(arm: Arm, index: int) -> None:
    """No prediction at all."""


def publish_ablation(
    run: Run,
    config: AblateConfig = CONFIG,
    *,
    answer: Answer = answers,
    said: Mapping[bool, str] | None = None,
    domains: Sequence[str] = ("docs", "films"),
    uncommitted: int = 0,
    idle: frozenset[HeadId] | None = None,
    ranking_sha256: str | None = None,
) -> list[str]:
    """Publish the answers and the stage, and give the verdict.

    said: predictions, right and wrong. ranking_sha256: the ranking that the heads claim to be of, else a made one.
    """
    means: dict[str, np.ndarray] = {name: random_means(seed=place) for place, name in enumerate(config.scopes)}
    plan = make_plan(made_ranking({"overall": random_means(), **means}), config, kv_heads=4, idle=idle)
    plan = plan if ranking_sha256 is None else replace(plan, ranking_sha256=ranking_sha256)
    outcomes = made_outcomes(plan, answer, num_controls=20, domains=domains)
    said = {True: "42", False: WRONG} if said is None else said
    words = pl.when("correct").then(pl.lit(said[True])).otherwise(pl.lit(said[False]))
    spoken = outcomes.with_columns(pl.when(pl.col("correct").is_not_null()).then(words).alias("prediction"))
    written = written_outcomes(run, spoken, plan, folder="ablation", uncommitted=uncommitted)
    accuracy = judge_stage(run.storage.uri, written.storage.uri, plan, config, stage="ablation")
    return verdict_lines(accuracy, plan, confidence=config.confidence)


def publish_screen(run: Run, *, needed: HeadId) -> frozenset[HeadId]:
    """A screen whose control, 20 samples, is answered worse where one head is silenced. Returns the idle heads."""
    config = screen_config(CONFIG.model_copy(update={"screen_split": "control"}), num_heads=96)
    plan = make_plan(made_ranking({"overall": random_means()}), config)
    outcomes = made_outcomes(
        plan, lambda arm, index: needed not in arm.heads or index > 0, num_samples=0, num_controls=20
    )
    written = written_outcomes(run, outcomes, plan, folder="screen")
    return idle_heads(judge_stage(run.storage.uri, written.storage.uri, plan, config, stage="screen"), plan)


def lowest_heads() -> list[HeadId]:
    """Of the ranking over all domains, the lowest last."""
    means = random_means()
    return [HeadId(*divmod(int(index), means.shape[1])) for index in np.argsort(-means.ravel(), kind="stable")]


def read_accuracy(run: Run) -> pl.DataFrame:
    return pl.read_parquet(f"{run.storage.uri}/ablation/accuracy.parquet")
