"""A driver in a process of its own: `python -m tests.cluster.driver SAMPLES OUT`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rampipe.engine.capture import run_capture
from tests.cluster.conftest import make_config
from tests.cluster.light_worker import KillsTheDriverOnce

if __name__ == "__main__":
    os.environ["RAMPIPE_TEST_DRIVER"] = str(os.getpid())
    run_capture(make_config(Path(sys.argv[1]), Path(sys.argv[2])), worker_class=KillsTheDriverOnce)
