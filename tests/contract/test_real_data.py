"""Real receipts and real handwriting go through capture and rank: balanced, no error row.

A few samples here; the whole sets are measured by the commands in docs/testbed.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rampipe.config import RankConfig
from rampipe.heads.rank import rank_run
from rampipe.tables.read import open_run
from rampipe.tables.storage import open_storage
from rampipe.tables.verify import verify
from rampipe.testbed.checkpoint import weights_path
from rampipe.testbed.random_model import write_random_model
from tests.local_run import finished_run, make_config

pytestmark = pytest.mark.data
NUM_SAMPLES = 6


@pytest.fixture(scope="module", params=["testbed", "random_qwen2_tokenizer"])
def model(request: pytest.FixtureRequest, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "testbed":
        return weights_path()
    folder = tmp_path_factory.mktemp("random")
    write_random_model(folder, tokenizer_folder=real_data / "qwen2_tokenizer")
    return folder


@pytest.mark.parametrize("source", ["sroie", "omniglot_needle"])
def test_real_samples_are_measured_and_ranked(source: str, model: Path, real_data: Path, tmp_path: Path) -> None:
    overrides = [
        f"data.source={source}", "data.split=select", f"data.limit={NUM_SAMPLES}",
        "evidence.min_overlap=0.05", "capture.unit_samples=3", "capture.batch_tokens=4096",
    ]  # fmt: skip
    config = make_config(model=model, data=real_data / source, out=tmp_path, overrides=overrides)
    uri = finished_run(config)
    report = verify(open_storage(uri))
    assert report.problems == ()
    run = open_run(uri)
    samples = run.samples.collect()
    assert samples.height == NUM_SAMPLES
    assert run.errors.collect().height == 0
    assert samples.get_column("num_evidence").min() >= 1
    assert run.head_stats.collect().height == NUM_SAMPLES * 2 * run.run.num_heads
    assert len(rank_run(uri, RankConfig(bootstrap_samples=20)).core_heads()) >= 1
