"""Workers without a model: they read, commit and fail as told, so that a test pays for processes and not for torch.

They commit real tables through the real protocol; only the numbers in them are hashes of the sample's id.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from rampipe.config import RunConfig
from rampipe.data import open_source
from rampipe.engine.events import SkippedRow
from rampipe.errors import ModelError, StorageError
from rampipe.tables.commit import Provenance, commit_unit, find_commit
from rampipe.tables.rows import GroupStatistics, SampleFailure, SampleResult
from rampipe.tables.run import open_run_dir
from rampipe.tables.storage import open_storage
from rampipe.types import REGIONS, Sample, Unit

FAULT_FOLDER = "RAMPIPE_TEST_FAULTS"
"""Environment variable naming a folder: a fault that must happen once leaves a file there."""

NODE = os.environ.get("RAY_RAYLET_PID", "none")
"""Ray tells its workers who started them; outside Ray, nobody did."""


class LightWorker:
    """Same methods as `rampipe.engine.worker.Worker`."""

    def __init__(self, config: RunConfig, *, run_uri: str, fingerprint: str) -> None:
        self.source, self.storage, self.fingerprint = open_source(config.data), open_storage(run_uri), fingerprint
        self.run = open_run_dir(self.storage)

    def run_unit(self, unit: Unit, *, attempt: int, skip: Sequence[SkippedRow] = ()) -> dict[str, Any]:
        committed = find_commit(self.storage, fingerprint=self.fingerprint, unit=unit)
        if committed is not None:
            return asdict(committed)
        self.before_unit(unit)
        results, failures = self.measure(unit, range(unit.row_start, unit.row_stop), {row.row for row in skip})
        return asdict(
            commit_unit(
                self.storage,
                fingerprint=self.fingerprint,
                unit=unit,
                results=results,
                failures=failures,
                provenance=Provenance(attempt=attempt, node=NODE, device=str(os.getpid()), versions={}, seconds=0.1),
            )
        )

    def probe(self, unit: Unit, rows: range, *, skip: Sequence[SkippedRow] = ()) -> None:
        self.measure(unit, rows, {row.row for row in skip})

    def measure(self, unit: Unit, rows: range, skip: set[int]) -> tuple[list[SampleResult], list[SampleFailure]]:
        results, failures = list[SampleResult](), list[SampleFailure]()
        for row, sample_id, sample in self.source.read(unit.shard, rows.start, rows.stop):
            if row in skip:
                failures.append(SampleFailure(sample_id, unit.shard, row, "engine", "killed_worker", "skipped"))
                continue
            assert isinstance(sample, Sample)
            self.before_sample(sample)
            results.append(self.result(sample))
        return results, failures

    def result(self, sample: Sample) -> SampleResult:
        seed = int.from_bytes(hashlib.sha256(sample.sample_id.encode()).digest()[:8], "big")
        rng = np.random.default_rng(seed)
        mass = rng.random((1, self.run.num_heads, len(REGIONS)), dtype=np.float32)
        mass[..., -1] = 0
        one = rng.random((1, self.run.num_heads), dtype=np.float32)
        group = GroupStatistics(
            layers=np.zeros(1, np.int16),
            mass=mass / mass.sum(axis=-1, keepdims=True),
            peak_evidence=one,
            hit=one,
            entropy_nats=one,
            mass_evidence_null=None,
            has_evidence=True,
            has_learned_sink=False,
        )
        groups = dict.fromkeys(self.run.queries, group)
        return SampleResult(sample.sample_id, sample.domain, "0" * 16, 10, {}, groups)

    def before_unit(self, unit: Unit) -> None:
        """A fault may happen here."""

    def before_sample(self, sample: Sample) -> None:
        """A fault may happen here."""


def once(name: str) -> bool:
    """True for the first caller of all processes."""
    try:
        (Path(os.environ[FAULT_FOLDER]) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class MeetsAnother(LightWorker):
    """Nobody works before two processes are there."""

    def before_unit(self, unit: Unit) -> None:
        folder = Path(os.environ[FAULT_FOLDER])
        (folder / f"met-{os.getpid()}").touch()
        while len(list(folder.glob("met-*"))) < 2:
            time.sleep(0.01)


class StopsOnce(LightWorker):
    """One actor stops without dying."""

    def before_unit(self, unit: Unit) -> None:
        if unit.unit_id == 2 and once("stopped"):
            os.kill(os.getpid(), signal.SIGSTOP)


class DiesSixTimes(LightWorker):
    """Six of eight units each lose their actor once, at a sample that follows from its id."""

    def before_sample(self, sample: Sample) -> None:
        chosen = int(hashlib.sha256(sample.sample_id.encode()).hexdigest(), 16) % 3 == 0
        if chosen and any(once(f"six-{number}") for number in range(6)):
            os.kill(os.getpid(), signal.SIGKILL)


class DiesAtFailpoint(LightWorker):
    """The first actor that comes to the step of the commit protocol that the test has named dies there."""

    def __init__(self, config: RunConfig, *, run_uri: str, fingerprint: str) -> None:
        super().__init__(config, run_uri=run_uri, fingerprint=fingerprint)
        folder = Path(os.environ[FAULT_FOLDER])
        name = (folder / "failpoint").read_text()
        os.environ["RAMPIPE_FAILPOINT"] = f"{name}@{folder / f'fired-{name}'}"


class FailsFrom(LightWorker):
    """Units from the number on that the test has named meet an output that cannot be written."""

    def before_unit(self, unit: Unit) -> None:
        if unit.unit_id >= int((Path(os.environ[FAULT_FOLDER]) / "fails-from").read_text()):
            raise StorageError("cannot write: No space left on device")


class OneShardIsSlow(LightWorker):
    """A hundred times slower than the others."""

    def before_unit(self, unit: Unit) -> None:
        time.sleep(2.0 if unit.shard.startswith("select-00001") else 0.02)


class TakesItsTime(LightWorker):
    """Long enough that something can happen while it works."""

    seconds = 0.2

    def before_sample(self, sample: Sample) -> None:
        time.sleep(self.seconds)


class TakesHalfASecond(TakesItsTime):
    """Long enough that a few thousand samples last for minutes."""

    seconds = 0.5


class KeepsWorkBack(TakesItsTime):
    """The last quarter of the units is not done before the driver has said so: there is work whenever a node goes."""

    def before_unit(self, unit: Unit) -> None:
        said = Path(os.environ[FAULT_FOLDER]) / "all-nodes-went"
        while unit.unit_id >= 3 * len(self.run.units) // 4 and not said.exists():
            time.sleep(0.05)


class HoldsOnce(LightWorker):
    """Half of the run is done, and one actor waits until somebody ends it."""

    def before_unit(self, unit: Unit) -> None:
        if unit.unit_id == 5 and once("holds"):
            signal.pause()


class StopsBeforeItWrites(LightWorker):
    """A process that has measured everything is stopped, and goes on when all is over."""

    def before_sample(self, sample: Sample) -> None:
        if once("zombie"):
            os.kill(os.getpid(), signal.SIGSTOP)


class EatsMemory(LightWorker):
    """One sample takes 8 GiB, if it can have them."""

    def before_sample(self, sample: Sample) -> None:
        if sample.sample_id == os.environ["RAMPIPE_TEST_POISON"]:
            eaten = [np.ones(64 << 20, dtype=np.uint8) for _ in range(128)]
            time.sleep(5.0)
            raise MemoryError(f"nobody stopped it after {len(eaten)} pieces")


class KillsTheDriverThreeTimes(LightWorker):
    """The process that started the run is gone at units 1, 3 and 5."""

    def before_unit(self, unit: Unit) -> None:
        if unit.unit_id in (1, 3, 5) and once(f"driver-{unit.unit_id}"):
            os.kill(int(os.environ["RAMPIPE_TEST_DRIVER"]), signal.SIGKILL)
            signal.pause()


class KillsTheDriverOnce(LightWorker):
    """The process that started the run is gone when half of it is done."""

    def before_unit(self, unit: Unit) -> None:
        if unit.unit_id == 4 and once("driver"):
            os.kill(int(os.environ["RAMPIPE_TEST_DRIVER"]), signal.SIGKILL)
            signal.pause()


class DiesOnOneSample(LightWorker):
    """One sample ends every process that touches it."""

    def before_sample(self, sample: Sample) -> None:
        if sample.sample_id == os.environ["RAMPIPE_TEST_POISON"]:
            os.kill(os.getpid(), signal.SIGKILL)


class RaisesOnOneSample(LightWorker):
    """One sample raises something that no sample should raise."""

    def before_sample(self, sample: Sample) -> None:
        if sample.sample_id == os.environ["RAMPIPE_TEST_POISON"]:
            raise KeyError("an error of ours")


class NeverStarts(LightWorker):
    """The constructor raises."""

    def __init__(self, config: RunConfig, *, run_uri: str, fingerprint: str) -> None:
        super().__init__(config, run_uri=run_uri, fingerprint=fingerprint)
        raise ModelError("model.path 'x' has no weights")
