"""A judged ablation of made outcomes: the numbers are the judge's, the answers are known."""

from __future__ import annotations

import polars as pl

from rampipe.config import AblateConfig
from rampipe.heads.plan import make_plan
from rampipe.heads.rank import Ranking
from rampipe.heads.ranking import to_table
from rampipe.heads.verdict import judge
from rampipe.tables.arms import Arm
from rampipe.tables.derived import publish_stage
from rampipe.tables.run import Run
from tests.unit.heads.made_outcomes import made_outcomes
from tests.unit.heads.made_ranking import made_ranking, random_means

CONFIG = AblateConfig(fracs=(0.0, 0.02, 0.05, 0.2), seeds=3)


def answers(arm: Arm, index: int) -> bool:
    """Top heads cost most answers, random ones a few, more where more are silenced; the control set is unharmed."""
    if index >= 40:
        return index % 5 != 0
    harm = {"top": 36 if arm.query_head_frac > 0.03 else 20, "bottom": 2}
    wrong = harm.get(arm.strategy, 1 if arm.seed is None else 2 + arm.seed + round(20 * arm.query_head_frac))
    return index >= wrong


def publish_ablation(run: Run, config: AblateConfig = CONFIG, *, predicts: bool = True) -> list[str]:
    """Publish the stage and give the verdict."""
    ranking: Ranking = made_ranking({"overall": random_means()})
    plan = make_plan(ranking, config, kv_heads=4)
    outcomes = made_outcomes(plan, answers if predicts else lambda arm, index: None, num_controls=20)
    accuracy, lines = judge(outcomes.lazy(), plan, bootstrap_samples=50, confidence=config.confidence)
    tables = {"accuracy": accuracy.to_arrow(), "arms": to_table([_row(arm) for arm in plan.arms], "arms.v1")}
    publish_stage(run.storage, "ablation", tables, {"test": config.model_dump(mode="json")})
    return lines


def read_accuracy(run: Run) -> pl.DataFrame:
    return pl.read_parquet(f"{run.storage.uri}/ablation/accuracy.parquet")


def _row(arm: Arm) -> dict[str, object]:
    fields = {name: getattr(arm, name) for name in Arm.__slots__}
    return {**fields, "heads": [{"layer": head.layer, "head": head.head} for head in arm.heads]}
