"""A ranking ends a capture that is running, after the same units as the capture's own watch would."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.rank import main
from jobs.stopping import make_watch
from rampipe.config import RankConfig, RunConfig, StopConfig
from rampipe.engine.capture import CaptureOutcome, run_capture
from rampipe.heads.follow import Patience, follow_run
from rampipe.tables.stopped import read_stopped
from rampipe.tables.storage import open_storage
from rampipe.tables.verify import row_set_hash, verify
from tests.cluster.asked_worker import WaitsForARequest
from tests.cluster.conftest import make_config
from tests.cluster.light_worker import LightWorker

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("local_ray")]
EVERY_HEAD, ON_REQUEST = "rank.k_frac=1.0", "stop.on_request=true"
"""A top set of all heads is certain after the first unit."""


def captured(config: RunConfig, worker: type[LightWorker] = LightWorker) -> CaptureOutcome:
    return run_capture(config, worker_class=worker, make_watch=make_watch(config), announce=lambda text: None)


def run_uri(out: Path) -> str:
    """Of the only run there, once it is planned."""
    while not list(out.glob("*/run.json")):
        time.sleep(0.01)
    return str(next(out.glob("*/run.json")).parent)


def test_a_running_capture_is_ended_by_its_ranking(sample_folder: Path, tmp_path: Path) -> None:
    config = make_config(sample_folder, tmp_path / "asked", EVERY_HEAD, ON_REQUEST)
    with ThreadPoolExecutor(1) as other:
        capture = other.submit(captured, config, WaitsForARequest)
        uri = run_uri(tmp_path / "asked")
        rank, patience = RankConfig(k_frac=1.0), Patience(poll_s=0.05, limit_s=600.0)
        follow_run(uri, rank, StopConfig(level=0.95), announce=lambda text: None, patience=patience)
        outcome = capture.result()
    storage = open_storage(uri)
    stopped = read_stopped(storage)
    assert stopped is not None
    assert (outcome.num_ok, outcome.num_units, outcome.complete) == (4, 1, True)
    assert verify(storage).ok
    assert main([uri, "--until-stable", "0.95", "--set", "rank.k_frac=1.0"]) == 0
    alone = captured(make_config(sample_folder, tmp_path / "alone", EVERY_HEAD, "stop.level=0.95"))
    assert row_set_hash(open_storage(alone.run_uri)) == row_set_hash(storage)


def test_nobody_asks(sample_folder: Path, tmp_path: Path) -> None:
    """Twin: everything is read, in the order of the seed."""
    outcome = captured(make_config(sample_folder, tmp_path, EVERY_HEAD, ON_REQUEST))
    assert (outcome.num_ok, outcome.num_units) == (32, 8)
    assert read_stopped(open_storage(outcome.run_uri)) is None
