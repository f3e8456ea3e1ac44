"""A capture that may end early does so after the same units for any number of replicas, and is whole then."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.stopping import make_watch
from rampipe.engine.capture import CaptureOutcome, run_capture
from rampipe.tables.stopped import read_stopped
from rampipe.tables.storage import open_storage
from rampipe.tables.verify import row_set_hash, verify
from tests.cluster.conftest import make_config
from tests.cluster.light_worker import LightWorker

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("local_ray")]
EVERY_HEAD = "rank.k_frac=1.0"
"""A top set of all heads is certain after the first unit."""


def capture(samples: Path, out: Path, *overrides: str) -> CaptureOutcome:
    config = make_config(samples, out, "stop.level=0.95", *overrides)
    said = list[str]()
    outcome = run_capture(config, worker_class=LightWorker, make_watch=make_watch(config), announce=said.append)
    stopped = read_stopped(open_storage(outcome.run_uri))
    assert (stopped is not None) == any("stopped after" in line for line in said)
    return outcome


def test_it_ends_when_it_is_certain_and_the_run_is_whole(sample_folder: Path, tmp_path: Path) -> None:
    two = capture(sample_folder, tmp_path / "two", EVERY_HEAD)
    assert (two.num_ok, two.num_units, two.complete, two.skipped) == (4, 1, True, False)
    storage = open_storage(two.run_uri)
    assert verify(storage).ok
    stopped = read_stopped(storage)
    assert stopped is not None
    assert stopped.saved_frac == 1 - 4 / 32
    one = capture(sample_folder, tmp_path / "one", EVERY_HEAD, "cluster.replicas=1")
    assert one.run_id == two.run_id
    assert row_set_hash(open_storage(one.run_uri)) == row_set_hash(storage)
    assert capture(sample_folder, tmp_path / "two", EVERY_HEAD).skipped


def test_it_reads_everything_when_it_never_is_certain(sample_folder: Path, tmp_path: Path) -> None:
    """Twin: masses at random, and a top set of some heads."""
    outcome = capture(sample_folder, tmp_path)
    assert (outcome.num_ok, outcome.num_units) == (32, 8)
    assert read_stopped(open_storage(outcome.run_uri)) is None
    assert verify(open_storage(outcome.run_uri)).ok


def test_a_run_that_may_end_early_is_another_run(sample_folder: Path, tmp_path: Path) -> None:
    config = make_config(sample_folder, tmp_path)
    assert make_watch(config) is None
    whole = run_capture(config, worker_class=LightWorker, announce=lambda text: None)
    assert capture(sample_folder, tmp_path, EVERY_HEAD).run_id != whole.run_id
