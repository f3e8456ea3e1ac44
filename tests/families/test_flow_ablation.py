"""From a checkpoint and a sample dataset on disk to arms with outcomes, by configuration alone."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rampipe.config import RankConfig
from rampipe.engine.plan import count_kv_heads
from rampipe.heads.plan import make_plan
from rampipe.heads.rank import rank_run
from rampipe.tables.read import open_run
from rampipe.tables.shards import write_shards
from tests.ablated import finished_ablation
from tests.families import gemma, glm, idefics, mistral
from tests.families.builder import Builder
from tests.families.samples import one_image, one_video, only_text, several_images
from tests.local_run import finished_run, make_config

BUILDERS = (glm.BUILDERS[0], mistral.BUILDERS[0], gemma.BUILDERS[0], *gemma.BUILDERS[2:], *idefics.BUILDERS)
"""Families without videos have one sample that becomes an error row."""
OVERRIDES = (
    "capture.queries=['question', 'last', 'answer']",
    "capture.predict_tokens=2",
    "ablate.fracs=[0.2]",
    "ablate.strategies=['top']",
    "ablate.split=val",
    "ablate.positions=['after_context']",
    "ablate.allow_same_samples=true",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_shards([one_image(), several_images(), only_text(), one_video()], folder, split="val", rows_per_shard=2)
    return folder


@pytest.mark.parametrize("builder", BUILDERS, ids=str)
def test_capture_rank_and_ablate_by_configuration_alone(builder: Builder, data: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    builder.write(model)
    config = make_config(model=model, data=data, out=tmp_path / "runs", overrides=OVERRIDES)
    uri = finished_run(config)
    run = open_run(uri)
    measured = {"one", "several", "text", "video"} - set(run.errors.collect()["sample_id"])
    assert measured >= {"one", "several", "text"}
    masses = pl.sum_horizontal(pl.selectors.starts_with("mass_") - pl.selectors.ends_with("_null"))
    assert run.head_stats.select((masses - 1).abs().max()).collect().item() < 1e-5
    plan = make_plan(rank_run(uri, RankConfig(bootstrap_samples=20)), config.ablate, kv_heads=count_kv_heads(config))
    outcomes = open_run(finished_ablation(config, uri, plan).storage.uri).outcomes.collect()
    assert set(outcomes["arm_id"]) == {arm.arm_id for arm in plan.arms}
    assert set(outcomes["sample_id"]) == measured
    by_arm = {
        key[0]: sorted(rows["answer_log_prob"]) for key, rows in outcomes.partition_by("arm_id", as_dict=True).items()
    }
    assert len({str(values) for values in by_arm.values()}) == len(by_arm)  # every arm changes something
