"""A full and a read-only disk, as small file systems in a mount namespace of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def in_namespace(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount at $1 without anyone else seeing it; skip where that is not allowed."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mount namespaces are not allowed here: full and read-only disks are not tested")
    return subprocess.run(
        ["unshare", "-rm", "bash", "-euc", script, "bash", str(folder), sys.executable],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.fault("F15")
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_space(tmp_path: Path) -> None:
    script = """
        mount -t tmpfs -o size=40k tmpfs "$1"
        "$2" -m tests.unit.tables.synthetic "$1" 2>&1 && echo "unexpected success"
        mount -o remount,size=4m "$1"
        "$2" -m tests.unit.tables.synthetic "$1" && "$2" -m rampipe verify "$1"/org-*
    """
    made = in_namespace(script, tmp_path)
    assert made.returncode == 0, made.stderr
    assert "The disk is full: free space" in made.stdout
    assert str(tmp_path) in made.stdout
    assert "unexpected success" not in made.stdout
    assert made.stdout.rstrip().endswith("ok")


@pytest.mark.fault("F16")
def test_a_disk_that_becomes_read_only_is_named_and_what_is_committed_stays(tmp_path: Path) -> None:
    script = """
        mount -t tmpfs -o size=4m tmpfs "$1"
        "$2" -m tests.unit.tables.synthetic "$1" --die-at after_samples || true
        mount -o remount,ro "$1"
        "$2" -m tests.unit.tables.synthetic "$1" 2>&1 && echo "unexpected success"
        mount -o remount,rw "$1"
        "$2" -m tests.unit.tables.synthetic "$1" && "$2" -m rampipe verify "$1"/org-*
    """
    made = in_namespace(script, tmp_path)
    assert made.returncode == 0, made.stderr
    assert "read-only: pass another folder with --out" in made.stdout
    assert "unexpected success" not in made.stdout
    assert made.stdout.rstrip().endswith("ok")
