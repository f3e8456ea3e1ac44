"""An ablation with faults, and its driver: `python -m tests.cluster.ablation_driver SAMPLES OUT`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rampipe.config import RunConfig
from rampipe.data import open_source
from rampipe.engine.ablate import run_ablation
from rampipe.engine.ablation_worker import AblationWorker
from rampipe.engine.events import SkippedRow
from rampipe.engine.plan import make_spec
from rampipe.tables.arms import Arm, ArmPlan
from rampipe.tables.run import create_run
from rampipe.types import HeadId, Unit
from tests.cluster.conftest import make_config
from tests.cluster.light_worker import once

HEADS = (HeadId(0, 2), HeadId(0, 10))
SEES = {"sink_tokens": 4, "window_tokens": 8, "keep_text": True, "dense_below_tokens": 0}
PLAN = ArmPlan(
    "run",
    "ram",
    "0" * 64,
    96,
    None,
    SEES,
    (
        Arm("base", "base", "ablate", "zero", "all", "query_head", "overall", 0.0, None, None, 0, 0.0, None, ()),
        Arm("off", "top", "ablate", "zero", "all", "query_head", "overall", 0.02, None, None, 2, 0.02, None, HEADS),
        Arm("only", "top", "keep", "hybrid", "all", "query_head", "overall", 0.02, None, None, 2, 0.02, None, HEADS),
    ),
)


def ablation_run(samples: Path, out: Path) -> tuple[RunConfig, str]:
    """The configuration, and the folder of a run that was planned and not captured: answers do not need more."""
    settings = ("ablate.split=eval", "capture.predict_tokens=3", "cluster.threads_per_replica=1", "cluster.replicas=1")
    config = make_config(samples, out, *settings)
    return config, create_run(config.out, make_spec(config, open_source(config.data))).storage.uri


class ActorDiesOnce(AblationWorker):
    """The first process that gets unit 3 is killed before it has done anything."""

    def run_unit(self, unit: Unit, *, attempt: int, skip: Sequence[SkippedRow] = ()) -> dict[str, Any]:
        if unit.unit_id == 3 and once("ablation-actor"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run_unit(unit, attempt=attempt, skip=skip)


class KillsItsDriverOnce(AblationWorker):
    """The process that started the ablation is gone when half of it is done."""

    def run_unit(self, unit: Unit, *, attempt: int, skip: Sequence[SkippedRow] = ()) -> dict[str, Any]:
        if unit.unit_id == 2 and once("ablation-driver"):
            os.kill(int(os.environ["RAMPIPE_TEST_DRIVER"]), signal.SIGKILL)
            signal.pause()
        return super().run_unit(unit, attempt=attempt, skip=skip)


if __name__ == "__main__":
    os.environ["RAMPIPE_TEST_DRIVER"] = str(os.getpid())
    ready, run_uri = ablation_run(Path(sys.argv[1]), Path(sys.argv[2]))
    run_ablation(ready, run_uri, PLAN, worker_class=KillsItsDriverOnce)
