"""Timings end with the same rows whatever happens to their processes, and no process measures twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rampipe.engine.capture import CaptureOutcome, complete_run
from rampipe.engine.speed import create_timings, run_timings
from rampipe.engine.speed_plan import speed_config
from rampipe.tables.commit import read_commits
from rampipe.tables.read import open_run
from rampipe.tables.storage import open_storage
from rampipe.tables.verify import verify
from tests.cluster.light_speed_worker import DiesInTheMiddle, LightSpeedWorker
from tests.cluster.speed_driver import ARM_IDS, PLAN, make_case

ROOT = Path(__file__).resolve().parents[2]
KEYS = {(arm_id, tokens, repeat) for arm_id in ARM_IDS for tokens in (128, 64) for repeat in (0, 1)}
pytestmark = pytest.mark.cluster


def run(sample_folder: Path, out: Path, worker_class: Callable[..., Any] = LightSpeedWorker) -> CaptureOutcome:
    config, run_uri = make_case(sample_folder, out)
    return run_timings(config, run_uri, PLAN, worker_class=worker_class, announce=lambda text: None)


def check_rows(run_uri: str) -> None:
    """Everything but the times."""
    assert verify(open_storage(run_uri)).problems == ()
    rows = open_run(run_uri).timings.collect().rows(named=True)
    assert len(rows) == len(KEYS)
    assert {(row["arm_id"], row["context_tokens"], row["repeat"]) for row in rows} == KEYS
    assert all(row["predicted_cache_bytes"] == row["context_tokens"] for row in rows)


def processes(run_uri: str) -> list[str]:
    return [record.device for record in read_commits(open_storage(run_uri)).values()]


@pytest.mark.usefixtures("local_ray")
def test_every_arm_has_a_process_of_its_own_and_no_two_run_at_once(sample_folder: Path, tmp_path: Path) -> None:
    outcome = run(sample_folder, tmp_path)
    check_rows(outcome.run_uri)
    assert len(set(processes(outcome.run_uri))) == len(ARM_IDS)
    commits = read_commits(open_storage(outcome.run_uri)).values()
    assert [record.attempt for record in commits] == [1] * len(ARM_IDS), "another process was measuring"
    assert run(sample_folder, tmp_path, DiesInTheMiddle).skipped


@pytest.mark.usefixtures("local_ray")
def test_without_fresh_actors_processes_are_reused(sample_folder: Path, tmp_path: Path) -> None:
    """The twin: the same run, where the scheduler may give an actor several units."""
    config, run_uri = make_case(sample_folder, tmp_path)
    created = create_timings(config, run_uri, PLAN)
    config = speed_config(config)
    arguments = {"config": config, "run_uri": created.storage.uri, "fingerprint": created.fingerprint}
    outcome = complete_run(
        config, created, worker=lambda: (LightSpeedWorker, arguments), announce=lambda text: None, fresh_actors=False
    )
    assert len(set(processes(outcome.run_uri))) < len(ARM_IDS)


@pytest.mark.usefixtures("local_ray")
def test_killed_actors_cost_no_row(sample_folder: Path, tmp_path: Path, faults: Path) -> None:
    outcome = run(sample_folder, tmp_path, DiesInTheMiddle)
    check_rows(outcome.run_uri)
    assert (faults / "speed-died").exists()
    assert (faults / "speed-died-publishing").exists()
    commits = read_commits(open_storage(outcome.run_uri))
    assert [commits[unit].attempt for unit in range(4)] == [1, 2, 2, 1]
    assert len(set(processes(outcome.run_uri))) == len(ARM_IDS)


@pytest.mark.usefixtures("local_ray")
def test_a_killed_driver_is_resumed_and_first_commits_stay(sample_folder: Path, tmp_path: Path, faults: Path) -> None:
    command = [sys.executable, "-m", "tests.cluster.speed_driver", str(sample_folder), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert (faults / "speed-driver").exists()
    (run_folder,) = tmp_path.glob("*/speed/timings/*")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(run_folder.glob("*/unit-*"))}
    assert 0 < len(list(run_folder.glob("_commits/*"))) < len(ARM_IDS)
    outcome = run(sample_folder, tmp_path)
    assert outcome.run_uri == str(run_folder)
    check_rows(outcome.run_uri)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
