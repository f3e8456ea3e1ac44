"""F6 and F7: a job that is stopped, and one whose head dies, go on where they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.cluster.light_worker import FAULT_FOLDER
from tests.cluster.oracle import check_same_rows, check_untouched, committed, golden_run
from tests.cluster.processes import ROOT, finish, start_driver, wait_until
from tests.cluster.test_submit import RAY, Head, head

__all__ = ["head"]

pytestmark = [pytest.mark.cluster, pytest.mark.faults]


def ray_job(head: Head, verb: str, *arguments: str) -> str:
    command = [str(RAY), "job", verb, "--address", head.address, *arguments]
    made = subprocess.run(command, env=head.environment, capture_output=True, text=True, check=False, timeout=120)
    return made.stdout + made.stderr


def submit(head: Head, name: str, samples: Path, out: Path, faults: Path) -> None:
    variables = {"PYTHONPATH": str(ROOT), FAULT_FOLDER: str(faults), "HF_HUB_OFFLINE": "1"}
    driver = [sys.executable, "-m", "tests.cluster.driver", str(samples), str(out), "--worker", "HoldsOnce"]
    flags = ["--no-wait", "--submission-id", name, "--runtime-env-json", json.dumps({"env_vars": variables})]
    said = ray_job(head, "submit", *flags, "--", *driver)
    assert "submitted" in said, said


def half_done(head: Head, name: str, samples: Path, out: Path, faults: Path) -> Path:
    """The folder of a run whose job is in the middle of its work."""
    faults.mkdir()
    submit(head, name, samples, out, faults)
    wait_until((faults / "holds").exists, what="the middle of the job")
    (folder,) = out.iterdir()
    wait_until(lambda: len(list((folder / "_commits").iterdir())) >= 2, what="commits")
    return folder


@pytest.mark.fault("F6")
def test_a_job_that_is_stopped_and_submitted_again(head: Head, sample_folder: Path, tmp_path: Path) -> None:
    golden, out = golden_run(sample_folder, tmp_path / "golden"), tmp_path / "out"
    folder = half_done(head, "to-be-stopped", sample_folder, out, tmp_path / "faults")
    ray_job(head, "stop", "to-be-stopped")
    wait_until(lambda: "was stopped" in ray_job(head, "status", "to-be-stopped"), what="the job stops")
    before = committed(folder)
    submit(head, "again", sample_folder, out, tmp_path / "faults")
    wait_until(lambda: "succeeded" in ray_job(head, "status", "again"), what="the job succeeds", timeout_s=240)
    check_same_rows(str(folder), golden, before)


@pytest.mark.fault("F7")
def test_a_head_that_dies_and_a_new_cluster(
    head: Head, sample_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden, out = golden_run(sample_folder, tmp_path / "golden"), tmp_path / "out"
    folder = half_done(head, "to-be-orphaned", sample_folder, out, tmp_path / "faults")
    ours = [process for process in psutil.process_iter() if belongs_to(process, head)]
    assert len(ours) >= 4
    for process in ours:
        process.kill()
    psutil.wait_procs(ours, timeout=60)
    before = committed(folder)
    check_untouched(str(folder), before)
    monkeypatch.setenv(FAULT_FOLDER, str(tmp_path / "faults"))
    finish(start_driver(sample_folder, out, "--worker", "HoldsOnce"))
    check_same_rows(str(folder), golden, before)


def belongs_to(process: psutil.Process, head: Head) -> bool:
    """Of this head, and of no other: only its processes know the file of its token."""
    try:
        return process.pid != os.getpid() and (
            process.environ().get("RAY_AUTH_TOKEN_PATH") == head.environment["RAY_AUTH_TOKEN_PATH"]
        )
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
