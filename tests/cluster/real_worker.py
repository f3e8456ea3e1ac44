"""The real worker, with a fault."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

from rampipe.engine.events import SkippedRow
from rampipe.engine.worker import Worker
from rampipe.types import Unit
from tests.cluster.light_worker import once


class RealWorkerThatDiesOnce(Worker):
    """The first process that gets unit 1 is killed before it has done anything."""

    def run_unit(self, unit: Unit, *, attempt: int, skip: Sequence[SkippedRow] = ()) -> dict[str, Any]:
        if unit.unit_id == 1 and once("real-worker-died"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run_unit(unit, attempt=attempt, skip=skip)
