"""Real replicas on a real Ray give the bytes that one process gives without Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from rampipe.data import open_source
from rampipe.engine.capture import run_capture
from rampipe.engine.plan import make_spec
from rampipe.engine.worker import Worker
from rampipe.tables.commit import read_commits
from rampipe.tables.run import create_run
from rampipe.tables.storage import open_storage
from rampipe.tables.verify import row_set_hash
from tests.cluster.conftest import make_config
from tests.cluster.real_worker import RealWorkerThatDiesOnce

pytestmark = pytest.mark.cluster


@pytest.mark.usefixtures("local_ray")
def test_two_replicas_of_which_one_is_killed_give_the_rows_of_one_process(sample_folder: Path, tmp_path: Path) -> None:
    overrides = ("capture.predict_tokens=2", "capture.unit_samples=8")
    config = make_config(sample_folder, tmp_path / "golden", *overrides)
    golden = create_run(config.out, make_spec(config, open_source(config.data)))
    worker = Worker(config, run_uri=golden.storage.uri, fingerprint=golden.fingerprint)
    for unit in golden.units:
        worker.run_unit(unit, attempt=1)

    outcome = run_capture(make_config(sample_folder, tmp_path / "ray", *overrides), worker_class=RealWorkerThatDiesOnce)
    storage = open_storage(outcome.run_uri)
    assert (outcome.num_ok, outcome.num_errors) == (32, 0)
    assert outcome.run_id == golden.run_id
    assert row_set_hash(storage) == row_set_hash(golden.storage)
    assert read_commits(storage)[1].attempt == 2
