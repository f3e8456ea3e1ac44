"""One replica at work: a unit in, a commit record out. It knows nothing of Ray.

The same unit gives the same bytes: batches are composed of the unit's own rows, whoever runs it and whenever.
Two units may be run at once, each by a thread of its own: one computes while the other reads, encodes or commits.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from threading import Lock
from typing import Any, ClassVar, NamedTuple

import torch

from rampipe.config import RunConfig
from rampipe.data import ReadResult, open_source
from rampipe.engine.device import Device, Turn
from rampipe.engine.events import SkippedRow
from rampipe.engine.placement import replica_place
from rampipe.engine.prefetch import prefetch
from rampipe.errors import DataError, ModelError, SampleError
from rampipe.models.identity import model_identity
from rampipe.models.loading import load_replica
from rampipe.models.torchvision import hide_broken_torchvision
from rampipe.tables.commit import Provenance, commit_unit, find_commit
from rampipe.tables.fingerprint import differing_keys
from rampipe.tables.rows import SampleFailure
from rampipe.tables.run import Run, library_versions, open_run_dir
from rampipe.tables.storage import open_storage
from rampipe.tables.unit_kind import CAPTURE, UnitKind
from rampipe.types import Sample, Unit

hide_broken_torchvision()  # before transformers' modelling code, which the trials import

from rampipe.engine.windows import Prepared, Window, batches_of, cut_windows  # noqa: E402
from rampipe.trials.context_images import ContextImages  # noqa: E402
from rampipe.trials.measure import measure  # noqa: E402
from rampipe.trials.trial import Trial, prepare  # noqa: E402

_SKIP_CODES = {"died": "killed_worker", "hung": "hung_worker", "raised": "raised_in_worker"}


class Outcome(NamedTuple):
    """What became of one row: its result, or a SampleError."""

    row: int
    sample_id: str
    result: Any


class Worker:
    """Loads the model once, then runs units; `AblationWorker` and `SpeedWorker` do so for other measurements.

    Raises ModelError when the model cannot be loaded or is not that of the run.
    """

    KIND: ClassVar[UnitKind[Any]] = CAPTURE
    SHARES_CONTEXT: ClassVar[bool] = True
    """Samples of one context are measured together, for little more than one of them."""

    def __init__(self, config: RunConfig, *, run_uri: str, fingerprint: str) -> None:
        self._config = config
        self._fingerprint = fingerprint
        self._storage = open_storage(run_uri)
        run = open_run_dir(self._storage)
        _check_checkpoint(config, run)
        self._source = open_source(config.data)
        self._planned_shards: dict[str, dict[str, Any]] = run.inputs.get("data", {}).get("shards", {})
        self._replica = load_replica(config.model, **replica_place(config.cluster))
        self._images = ContextImages(self._replica, max_pixels=config.capture.max_pixels)
        self._device = Device()
        self._versions = library_versions()
        self._starting = Lock()
        self._is_started = False
        self._shares_context = self.SHARES_CONTEXT and config.capture.share_context

    def run_unit(self, unit: Unit, *, attempt: int, skip: Sequence[SkippedRow] = ()) -> dict[str, Any]:
        """Measure and commit a unit; returns its commit record. A unit that is committed already is not run again.

        skip: rows that become error rows without being touched, beyond reading their id.
        Raises StorageError, DataError or ModelError when no sample is to blame.
        """
        committed = find_commit(self._storage, fingerprint=self._fingerprint, unit=unit)
        if committed is not None:
            return asdict(committed)
        self._check_shard(unit.shard)
        outcomes, turn = self._outcomes(unit, range(unit.row_start, unit.row_stop), skip)
        self._check_shard(unit.shard)
        record = commit_unit(
            self._storage,
            fingerprint=self._fingerprint,
            unit=unit,
            kind=self.KIND,
            results=[outcome.result for outcome in outcomes if not isinstance(outcome.result, SampleError)],
            failures=[
                SampleFailure(
                    sample_id=outcome.sample_id,
                    shard=unit.shard,
                    row=outcome.row,
                    stage=outcome.result.stage,
                    code=outcome.result.code,
                    message=str(outcome.result),
                )
                for outcome in outcomes
                if isinstance(outcome.result, SampleError)
            ],
            provenance=Provenance(
                attempt=attempt,
                node=socket.gethostname(),
                device=_device_name(self._replica.device, num_gpus=replica_place(self._config.cluster)["num_gpus"]),
                versions=self._versions,
                seconds=turn.seconds,
                forward_s=turn.forward_s,
                wait_s=turn.wait_s,
            ),
        )
        return asdict(record)

    def probe(self, unit: Unit, rows: range, *, skip: Sequence[SkippedRow] = ()) -> None:
        """Measure some rows of a unit and forget the result: does the process survive them?"""
        self._outcomes(unit, rows, skip)

    def _check_shard(self, name: str) -> None:
        """The rows that are measured are those that were planned, before and after they are read."""
        planned = self._planned_shards.get(name)
        if planned is None:  # of a run of timings, whose units are no shards
            return
        shard = self._source.shard(name)
        seen = {"rows": shard.num_rows, "bytes": shard.num_bytes, "digest": shard.digest}
        if seen != planned:
            raise DataError(
                f"shard {name} on {socket.gethostname()}: not the file that the run was planned with ({seen}, planned "
                f"{planned}). Put the planned file back, or capture the new one as another run."
            )

    def _outcomes(self, unit: Unit, rows: range, skip: Sequence[SkippedRow]) -> tuple[list[Outcome], Turn]:
        """Every row once, in order, and the time that it took on the device."""
        outcomes, arrived_s = list[Outcome](), time.monotonic()
        with closing(self._windows(unit, rows, skip)) as windows:
            window = self._first_window(windows)  # before it is our turn
            with self._device.turn(arrived_s=arrived_s) as turn:
                while window is not None:
                    outcomes += self._measure_window(window, turn)
                    window = next(windows, None)
        return sorted(outcomes, key=lambda outcome: outcome.row), turn

    def _first_window(self, windows: Iterator[Window]) -> Window | None:
        """Of a unit. The first unit of all is prepared alone, as the device waits for it and for no other."""
        if self._is_started:
            return next(windows, None)
        with self._starting:
            window = next(windows, None)
            self._is_started = True
        return window

    def _windows(self, unit: Unit, rows: range, skip: Sequence[SkippedRow]) -> Generator[Window]:
        """The next window is prepared while one is measured."""
        windows = cut_windows(
            self._prepare_all(unit, rows, skip),
            batch_tokens=self._config.capture.batch_tokens,
            shares_context=self._shares_context,
        )
        return prefetch(windows, lambda window: window, num_threads=1, num_ahead=1)

    def _prepare_all(self, unit: Unit, rows: range, skip: Sequence[SkippedRow]) -> Iterator[Prepared]:
        skipped = {row.row: row for row in skip}

        def prepare_one(read: ReadResult) -> Prepared:
            if read.row in skipped:
                return Prepared(read.row, read.sample_id, skip_error(read.sample_id, skipped[read.row]))
            return Prepared(read.row, read.sample_id, self._prepare(read.sample))

        num_threads = max(1, int(self._config.cluster.cpus_per_replica)) + int(not self._is_started)  # nothing computes
        reads = self._source.read(unit.shard, rows.start, rows.stop)
        if num_threads == 1:  # then the thread that cuts windows reads and prepares too: each handing over costs time
            return map(prepare_one, reads)
        return prefetch(reads, prepare_one, num_threads=num_threads, num_ahead=2 * num_threads + 2)

    def _prepare(self, sample: Sample | SampleError) -> Trial | SampleError:
        if isinstance(sample, SampleError):
            return sample
        try:
            return prepare(self._replica, sample, config=self._config, images=self._images)
        except SampleError as error:
            return error

    def _measure(self, trials: Sequence[Trial]) -> Sequence[Any]:
        """A result, or the SampleError, of each trial of one batch."""
        return measure(self._replica, trials, config=self._config)

    def _measure_window(self, window: Window, turn: Turn) -> list[Outcome]:
        outcomes = [Outcome(row.row, row.sample_id, row.trial) for row in window if isinstance(row.trial, SampleError)]
        batches = batches_of(
            window, batch_tokens=self._config.capture.batch_tokens, shares_context=self._shares_context
        )
        for batch in batches:
            with turn.forward():
                results = self._measure([row.trial for row in batch if isinstance(row.trial, Trial)])
            outcomes += [Outcome(row.row, row.sample_id, result) for row, result in zip(batch, results, strict=True)]
        return outcomes


def _check_checkpoint(config: RunConfig, run: Run) -> None:
    """The files here are those that the run was planned with: another node, or a later hour, may have others."""
    differing = differing_keys(run.inputs["model"], model_identity(config.model, on_gpu=config.cluster.on_gpu))
    if differing:
        raise ModelError(
            f"model.path {config.model.path} on {socket.gethostname()}: not the checkpoint that run {run.run_id} was "
            f"planned with ({', '.join(list(differing)[:5])} differ). Put the same files on every node, or start anew."
        )


def skip_error(sample_id: str, skipped: SkippedRow) -> SampleError:
    """The same text in every run: what a killed process says holds ids of processes and nodes."""
    what = {
        "died": "ends every worker that measures it, probably by exhausting memory or crashing a decoder",
        "hung": "makes every worker that measures it hang",
        "raised": f"raises in every worker that measures it ({skipped.cause})",
    }[skipped.kind]
    message = f"sample {sample_id}: {what}. Look at its images and length. Sample skipped."
    return SampleError(message, stage="engine", code=_SKIP_CODES[skipped.kind])


def _device_name(device: torch.device, *, num_gpus: int) -> str:
    if device.type != "cuda":
        return device.type
    name = torch.cuda.get_device_name(device)
    return name if num_gpus == 1 else f"{num_gpus} x {name}"
