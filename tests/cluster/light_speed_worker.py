"""Timings without a model or a clock to trust: the protocol, the processes and the faults are real."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rampipe.config import RunConfig
from rampipe.engine.events import SkippedRow
from rampipe.tables.commit import Provenance, commit_unit, find_commit
from rampipe.tables.storage import open_storage
from rampipe.tables.timings import ArmTimings, Repetition
from rampipe.tables.unit_kind import TIMINGS
from rampipe.types import Unit
from tests.cluster.light_worker import FAULT_FOLDER, once


class LightSpeedWorker:
    """Same methods as `SpeedWorker`. The device that it records is its process."""

    def __init__(self, config: RunConfig, *, run_uri: str, fingerprint: str) -> None:
        self.speed, self.storage, self.fingerprint = config.speed, open_storage(run_uri), fingerprint

    def run_unit(self, unit: Unit, *, attempt: int, skip: Sequence[SkippedRow] = ()) -> dict[str, Any]:
        committed = find_commit(self.storage, fingerprint=self.fingerprint, unit=unit)
        if committed is not None:
            return asdict(committed)
        with (Path(os.environ[FAULT_FOLDER]) / "device").open("w") as device:
            fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises when another process measures
            self.before_unit(unit)
            results = [self.timed(unit.shard, self.speed.context_tokens[row]) for row in range(unit.row_stop)]
        return asdict(
            commit_unit(
                self.storage,
                fingerprint=self.fingerprint,
                unit=unit,
                kind=TIMINGS,
                results=results,
                failures=[],
                provenance=Provenance(attempt=attempt, node="light", device=str(os.getpid()), versions={}, seconds=0.1),
            )
        )

    def probe(self, unit: Unit, rows: range, *, skip: Sequence[SkippedRow] = ()) -> None:
        """Nothing to look for."""

    def timed(self, arm_id: str, context_tokens: int) -> ArmTimings:
        """Seconds that no other attempt has."""
        repetition = Repetition(
            dense_first=True,
            prefill_s=time.monotonic(),
            dense_prefill_s=time.monotonic(),
            decode_s=1.0,
            dense_decode_s=2.0,
            peak_bytes=None,
            dense_peak_bytes=None,
            cache_bytes=context_tokens,
            dense_cache_bytes=2 * context_tokens,
        )
        return ArmTimings(
            arm_id, context_tokens, self.speed.new_tokens, context_tokens, (repetition,) * self.speed.repeats
        )

    def before_unit(self, unit: Unit) -> None:
        """A fault may happen here."""


class DiesInTheMiddle(LightSpeedWorker):
    """The actor of one unit is killed before it has published anything, that of another in the middle of publishing."""

    def before_unit(self, unit: Unit) -> None:
        if unit.unit_id == 1 and once("speed-died"):
            os.kill(os.getpid(), signal.SIGKILL)
        if unit.unit_id == 2 and once("speed-died-publishing"):
            os.environ["RAMPIPE_FAILPOINT"] = "after_timings"


class KillsTheDriverOnce(LightSpeedWorker):
    """The process that started the run is gone when half of it is done."""

    def before_unit(self, unit: Unit) -> None:
        if unit.unit_id == 2 and once("speed-driver"):
            os.kill(int(os.environ["RAMPIPE_TEST_DRIVER"]), signal.SIGKILL)
            signal.pause()
