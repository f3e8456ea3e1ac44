"""Drivers as processes: started, waited for, and what they do to each other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start_driver(
    samples: Path, out: Path, *flags: str, module: str = "tests.cluster.driver", **environment: str
) -> subprocess.Popen[str]:
    """A driver whose output is kept."""
    return subprocess.Popen(
        [sys.executable, "-m", module, str(samples), str(out), *flags],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(driver: subprocess.Popen[str], *, code: int = 0, timeout_s: float = 300) -> str:
    """Wait for a driver. Returns what it printed; AssertionError with its last words for another exit code."""
    out, err = driver.communicate(timeout=timeout_s)
    assert driver.returncode == code, f"exit code {driver.returncode}: {err[-3000:]}"
    return out + err


def wait_until(happened: Callable[[], bool], *, what: str, timeout_s: float = 120) -> None:
    """Other processes tell by files; AssertionError when they do not in time."""
    deadline_s = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline_s, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(0.05)
