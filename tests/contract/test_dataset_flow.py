"""From the published files of every dataset to a ranking and an ablation, by nothing but a configuration."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rampipe.config import RankConfig
from rampipe.data import SOURCES
from rampipe.engine.plan import count_kv_heads
from rampipe.errors import RampipeError
from rampipe.heads.plan import make_plan
from rampipe.heads.rank import rank_run
from rampipe.heads.verdict.judge import judge
from rampipe.tables.read import open_run
from rampipe.tables.storage import open_storage
from rampipe.tables.verify import verify
from rampipe.testbed.checkpoint import weights_path
from tests.ablated import finished_ablation
from tests.local_run import finished_run, make_config
from tests.unit.data.layouts import COUNT, LAYOUTS, SPLITS

EVALUATION_ONLY = {"mlvu", "docvqa", "chartqa", "textvqa"}


def test_no_dataset_is_left_out():
    assert {source.name for source in SOURCES} - {"samples"} == set(LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_capture_rank_and_ablate_by_config_alone(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path / "files")
    overrides = [f"data.source={name}", "evidence.min_overlap=0", "capture.predict_tokens=2", "ablate.fracs=[0.05]"]
    overrides += [f"ablate.split={SPLITS[name]}", "capture.unit_samples=2"]
    overrides += ["ablate.strategies=['from_list']", "ablate.heads=['1.0']", "ablate.allow_same_samples=true"]
    config = make_config(
        model=Path(weights_path()), data=tmp_path / "files", out=tmp_path / "runs", overrides=overrides
    )
    uri = finished_run(config)
    assert verify(open_storage(uri)).problems == ()
    run = open_run(uri)
    num_samples = run.samples.collect().height
    codes = run.errors.collect().get_column("code").to_list()
    assert codes == []
    assert num_samples >= COUNT
    if name in EVALUATION_ONLY:
        with pytest.raises(RampipeError, match="evidence"):
            rank_run(uri, RankConfig(bootstrap_samples=20))
        return
    ranking = rank_run(uri, RankConfig(bootstrap_samples=20))
    plan = make_plan(ranking, config.ablate, kv_heads=count_kv_heads(config))
    outcomes = open_run(finished_ablation(config, uri, plan).storage.uri).outcomes
    table, _ = judge(outcomes, plan, bootstrap_samples=20)
    judged = table.filter(pl.col("scope") == "overall").get_column("num_samples")
    assert judged.to_list() == [num_samples] * len(plan.arms)
