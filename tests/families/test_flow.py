"""From a checkpoint and a sample dataset on disk to a finished run, by configuration alone."""

from __future__ import annotations

import json
from pathlib import Path

import polars
import pytest

from rampipe.tables.shards import write_shards
from tests.families.builder import Builder
from tests.families.builders import BUILDERS
from tests.families.samples import one_image, one_video, only_text, several_images
from tests.local_run import finished_run, make_config

FLOWS = {
    "qwen3_vl": ({"one", "several", "text", "video"}, set()),
    "qwen3_5": ({"one", "several", "text", "video"}, set()),
    "llama": ({"text"}, {"one", "several", "video"}),
    "gemma2": ({"text"}, {"one", "several", "video"}),
}
"""Samples that are measured, and samples that become error rows, by `model_type`."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_shards([one_image(), several_images(), only_text(), one_video()], folder, split="val", rows_per_shard=2)
    return folder


@pytest.mark.parametrize("builder", [one for one in BUILDERS if one.model_type in FLOWS], ids=str)
def test_capture_by_configuration_alone(builder: Builder, data: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    builder.write(model)
    measured, refused = FLOWS[builder.model_type]
    run = Path(finished_run(make_config(model=model, data=data, out=tmp_path / "runs")))
    stats = polars.read_parquet(run / "head_stats" / "*.parquet")
    assert set(stats["sample_id"]) == measured
    errors = polars.read_parquet(run / "errors" / "*.parquet")
    assert {(row["sample_id"], row["code"]) for row in errors.to_dicts()} == {
        (name, "image_unsupported") for name in refused
    }
    masses = [column for column in stats.columns if column.startswith("mass_") and not column.endswith("_null")]
    assert stats.select(polars.sum_horizontal(masses) - 1).to_series().abs().max() < 1e-5
    about = json.loads((run / "run.json").read_text())
    has_linear = builder.model_type == "qwen3_5"
    assert set(stats["layer"]) == ({1, 2} if has_linear else {0, 1})
    assert about["inputs"].get("layers_without_softmax_attention") == ("0" if has_linear else None)
