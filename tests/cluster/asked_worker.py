"""A worker that waits until somebody has asked its capture to end."""

from __future__ import annotations

import time

from rampipe.tables.requested import RequestedStop
from rampipe.tables.stopped import REQUEST_PATH
from rampipe.types import Unit
from tests.cluster.light_worker import LightWorker

LIMIT_S = 120.0
"""After which it goes on, and the test fails instead of waiting for ever."""


class WaitsForARequest(LightWorker):
    """All units but the first two of the order last until then."""

    def before_unit(self, unit: Unit) -> None:
        if unit.unit_id not in RequestedStop(self.run, seed=0).order[:2]:
            end_s = time.monotonic() + LIMIT_S
            while self.storage.size(REQUEST_PATH) is None and time.monotonic() < end_s:
                time.sleep(0.01)
