"""A run of timings to be tried, and a driver of it in its own process: `python -m tests.cluster.speed_driver SAMPLES
OUT`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rampipe.config import RunConfig
from rampipe.data import open_source
from rampipe.engine.plan import make_spec
from rampipe.engine.speed import run_timings
from rampipe.tables.arms import Arm, ArmPlan
from rampipe.tables.run import create_run
from tests.cluster.conftest import make_config
from tests.cluster.light_speed_worker import KillsTheDriverOnce

ARM_IDS = ("top", "bottom", "random", "none")
SPEED = ("speed.split=select", "speed.context_tokens=[128, 64]", "speed.repeats=2", "speed.new_tokens=2")


def keep(arm_id: str, strategy: str) -> Arm:
    return Arm(arm_id, strategy, "keep", "hybrid", "all", "query_head", "overall", 0.1, None, None, 0, 0.0, 0.0, ())


PLAN = ArmPlan("run", "ram", "0" * 64, 96, 8, {}, (keep("base", "base"), *(keep(arm_id, "top") for arm_id in ARM_IDS)))


def make_case(sample_folder: Path, out: Path) -> tuple[RunConfig, str]:
    """The configuration, and the run whose heads are timed."""
    config = make_config(sample_folder, out, *SPEED)
    return config, create_run(config.out, make_spec(config, open_source(config.data))).storage.uri


if __name__ == "__main__":
    os.environ["RAMPIPE_TEST_DRIVER"] = str(os.getpid())
    made, uri = make_case(Path(sys.argv[1]), Path(sys.argv[2]))
    run_timings(made, uri, PLAN, worker_class=KillsTheDriverOnce)
