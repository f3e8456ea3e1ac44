"""Judged once, and again when the answers or the settings have changed."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from rampipe.config import AblateConfig
from rampipe.errors import IncompleteError
from rampipe.heads.plan import make_plan
from rampipe.heads.verdict import judge
from rampipe.heads.verdict.stage import base_line, judge_stage
from rampipe.tables.arms import ArmPlan
from rampipe.tables.run import Run
from tests.unit.heads.made_outcomes import Answer, made_outcomes, top_matters
from tests.unit.heads.made_ranking import made_ranking, random_means
from tests.unit.heads.made_runs import written_outcomes
from tests.unit.heads.planted import Study, planted_masses, write_run

PLAN = make_plan(made_ranking({"overall": random_means()}), AblateConfig(fracs=(0.0, 0.05), seeds=2), kv_heads=8)
CONFIG = AblateConfig(bootstrap_samples=50)


def judged(parent: Run, answer: Answer, config: AblateConfig = CONFIG, plan: ArmPlan = PLAN) -> pl.DataFrame:
    outcomes = written_outcomes(parent, made_outcomes(plan, answer), plan, folder="ablation")
    return judge_stage(parent.storage.uri, outcomes.storage.uri, plan, config, stage="ablation")


@pytest.fixture
def parent(tmp_path: Path) -> Run:
    return write_run(tmp_path, Study(planted_masses(8, {})))


def test_the_tables_are_those_of_the_judge(parent: Run) -> None:
    accuracy = judged(parent, top_matters)
    expected, _ = judge(made_outcomes(PLAN, top_matters).lazy(), PLAN, bootstrap_samples=50)
    assert accuracy.equals(expected)
    assert base_line(accuracy, PLAN) == "base: 39 of 40 right"
    tables = sorted(path for path in parent.storage.list("ablation") if path.count("/") == 1)
    assert tables == ["ablation/_SUCCESS.json", "ablation/accuracy.parquet", "ablation/arms.parquet"]


def test_a_current_stage_is_not_made_again(parent: Run) -> None:
    judged(parent, top_matters)
    path = Path(parent.storage.uri) / "ablation" / "accuracy.parquet"
    before = path.stat().st_mtime_ns
    judged(parent, top_matters)
    assert path.stat().st_mtime_ns == before
    judged(parent, top_matters, CONFIG.model_copy(update={"seed": 1}))  # twin
    assert path.stat().st_mtime_ns != before
    content = json.loads(parent.storage.read("ablation/_SUCCESS.json"))
    assert content["made_from"]["judge"]["seed"] == 1


def test_unfinished_outcomes_are_refused_unless_allowed(parent: Run) -> None:
    run = written_outcomes(parent, made_outcomes(PLAN, top_matters), PLAN, folder="ablation", uncommitted=1)
    with pytest.raises(IncompleteError, match="is not finished: 1 of 2 units"):
        judge_stage(parent.storage.uri, run.storage.uri, PLAN, CONFIG, stage="ablation")
    partial = CONFIG.model_copy(update={"allow_partial": True})
    accuracy = judge_stage(parent.storage.uri, run.storage.uri, PLAN, partial, stage="ablation")
    assert accuracy.row(0, named=True)["num_samples"] == 20
