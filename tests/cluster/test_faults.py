"""A run ends with the same rows whatever happens to its processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rampipe.config import RunConfig
from rampipe.engine.capture import CaptureOutcome, run_capture
from rampipe.errors import ClusterError
from rampipe.tables.commit import read_commits
from rampipe.tables.parquet import parse
from rampipe.tables.run import open_run_dir
from rampipe.tables.schema import load_schema
from rampipe.tables.storage import open_storage
from tests.cluster.conftest import make_config
from tests.cluster.light_worker import (
    DiesOnOneSample,
    LightWorker,
    MeetsAnother,
    NeverStarts,
    RaisesOnOneSample,
    StopsOnce,
)
from tests.cluster.oracle import check_same_rows, check_same_rows_but_one, committed, golden_run

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.cluster


def run(config: RunConfig, worker_class: Callable[..., Any] = LightWorker) -> CaptureOutcome:
    return run_capture(config, worker_class=worker_class, announce=lambda text: None)


def error_rows(outcome: CaptureOutcome) -> list[dict[str, Any]]:
    storage = open_storage(outcome.run_uri)
    tables = [parse(storage.read(path), load_schema("errors.v1")) for path in storage.list("errors")]
    return [row for table in tables for row in table.to_pylist()]


@pytest.fixture(scope="module")
def golden(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return golden_run(sample_folder, tmp_path_factory.mktemp("golden"))


@pytest.mark.usefixtures("local_ray")
def test_two_actors_finish_a_balanced_run_and_a_second_call_does_nothing(config: RunConfig, golden: str) -> None:
    outcome = run(config, MeetsAnother)
    storage = open_storage(outcome.run_uri)
    assert (outcome.num_ok, outcome.num_errors, outcome.num_units, outcome.complete) == (32, 0, 8, True)
    assert not outcome.skipped
    check_same_rows(outcome.run_uri, golden)
    assert len({record.device for record in read_commits(storage).values()}) == 2, "one actor did everything"
    assert run(config, NeverStarts).skipped


@pytest.mark.fault("F4")
@pytest.mark.usefixtures("local_ray")
def test_a_stopped_actor_is_overtaken(config: RunConfig, golden: str) -> None:
    outcome = run(config, StopsOnce)
    check_same_rows(outcome.run_uri, golden)
    assert read_commits(open_storage(outcome.run_uri))[2].attempt == 2


@pytest.mark.fault("F13")
@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("worker_class", [DiesOnOneSample, RaisesOnOneSample])
def test_a_poison_sample_is_one_error_row(
    config: RunConfig, golden: str, poison: str, worker_class: type[LightWorker]
) -> None:
    outcome = run(config, worker_class)
    (row,) = error_rows(outcome)
    assert (row["sample_id"], row["row"], row["stage"], row["code"]) == (poison, 6, "engine", "killed_worker")
    assert (outcome.num_ok, outcome.num_errors) == (31, 1)
    check_same_rows_but_one(outcome.run_uri, golden, poison)


@pytest.mark.usefixtures("local_ray")
def test_a_constructor_that_fails_twice_ends_the_job_with_its_cause(config: RunConfig) -> None:
    with pytest.raises(ClusterError, match=r"2 times: .*ModelError: model.path 'x' has no weights"):
        run(config, NeverStarts)


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cluster.gpus_per_replica=1", "asked for 1 GPU and 1 CPU each.*Set cluster.gpus_per_replica=0"),
        ("cluster.cpus_per_replica=1000", "asked for 0 GPU and 1000 CPU each, there are 1 nodes .0 GPU, 4 CPU"),
        ("cluster.replicas=99", "only 4 fit"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_starts(
    sample_folder: Path, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ClusterError, match=message):
        run(make_config(sample_folder, tmp_path, override), NeverStarts)


@pytest.mark.fault("F5")
@pytest.mark.usefixtures("local_ray")
def test_a_killed_driver_is_resumed_and_earlier_commits_stay(
    sample_folder: Path, tmp_path: Path, faults: Path, golden: str
) -> None:
    command = [sys.executable, "-m", "tests.cluster.driver", str(sample_folder), str(tmp_path)]
    command += ["--worker", "KillsTheDriverOnce"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert (faults / "driver").exists()
    (run_folder,) = tmp_path.iterdir()
    before = committed(run_folder)
    assert 0 < len(before) < 4 * len(open_run_dir(str(run_folder)).units)
    outcome = run(make_config(sample_folder, tmp_path))
    assert outcome.run_uri == str(run_folder)
    check_same_rows(outcome.run_uri, golden, before)
