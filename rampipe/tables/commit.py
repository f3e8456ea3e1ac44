"""Publish what one unit gave, so that any number of attempts at once leave exactly one result.

Every file is create-if-absent and the first writer wins; the commit record comes last. The errors file goes first and
decides which samples count as measured: an attempt that finds another's follows it, so that files of two attempts
never disagree about the samples.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from rampipe.errors import DataError, IncompleteError, StorageError
from rampipe.tables.failpoint import failpoint
from rampipe.tables.parquet import parse, read_metadata, to_bytes
from rampipe.tables.record import CommitRecord, CommittedFile, Provenance, commit_path, read_commit, read_commits
from rampipe.tables.rows import SampleFailure, errors_table
from rampipe.tables.schema import load_schema
from rampipe.tables.storage import Storage
from rampipe.tables.unit_kind import CAPTURE, Result, UnitKind
from rampipe.types import Unit

__all__ = ["CommitRecord", "CommittedFile", "Provenance", "commit_unit", "find_commit", "read_commits"]

QUARANTINE_FOLDER = "_quarantine"
UNIT_SCHEMAS = CAPTURE.schemas
"""Tables of a unit of a capture run, in the order in which they are published."""


def find_commit(storage: Storage, *, fingerprint: str, unit: Unit) -> CommitRecord | None:
    """The commit of a unit, or None when it has to be computed.

    Raises StorageError when it belongs to another fingerprint, or a file does not have its recorded size.
    """
    path = commit_path(unit)
    if storage.size(path) is None:
        return None
    record = read_commit(storage, path)
    if record.fingerprint != fingerprint:
        raise StorageError(
            f"{storage.uri}/{path}: fingerprint {record.fingerprint[:12]}, this run has {fingerprint[:12]}. "
            f"Pass another folder with --out."
        )
    for file in record.files:
        size = storage.size(file.path)
        if size != file.bytes:
            seen = "is missing" if size is None else f"has {size} bytes"
            raise StorageError(
                f"{storage.uri}/{file.path}: {seen}, committed were {file.bytes}. Run `rampipe repair` on the run."
            )
    return record


def commit_unit(  # noqa: PLR0913 - a unit, all that it gave, and of which kind
    storage: Storage,
    *,
    fingerprint: str,
    unit: Unit,
    results: Sequence[Result],
    failures: Sequence[SampleFailure],
    provenance: Provenance,
    kind: UnitKind[Result] = CAPTURE,
) -> CommitRecord:
    """Publish the files of a unit, then its commit record; or adopt what another attempt published.

    results: in the order of the shard, which is the order of the rows. Returns the record that is on disk, which may
    be another attempt's. Raises IncompleteError when results and failures are not the unit's samples, SampleError for
    statistics that are not finite, StorageError when the output cannot be written.
    """
    committed = find_commit(storage, fingerprint=fingerprint, unit=unit)
    if committed is not None:
        return committed
    started_s = time.monotonic()
    _check_balance(unit, results, failures, kind)
    unit_files = _UnitFiles(storage, fingerprint, unit, kind)
    tables = {name: make(results) for name, make in kind.tables.items()}  # refuses bad values before it publishes any
    failpoint("before_publish")
    errors = unit_files.publish("errors", errors_table(failures))
    failpoint("after_errors")
    kept = _follow(unit_files, results, errors.table)
    if len(kept) < len(results):
        tables = {name: make(kept) for name, make in kind.tables.items()}
    files, num_rows = [errors.file], 0
    for name, table in tables.items():
        files.append(unit_files.publish(name, table).file)
        num_rows = files[-1].rows
        failpoint(f"after_{name}")
    record = CommitRecord(
        unit_id=unit.unit_id,
        fingerprint=fingerprint,
        files=tuple(sorted(files, key=lambda file: file.path)),
        num_ok=len(kept),
        num_errors=errors.file.rows,
        num_rows=num_rows,
        **asdict(provenance),
        commit_s=time.monotonic() - started_s,
    )
    created = storage.publish(commit_path(unit), record.to_json())
    failpoint("after_commit")
    return record if created else _existing(storage, fingerprint=fingerprint, unit=unit)


def _existing(storage: Storage, *, fingerprint: str, unit: Unit) -> CommitRecord:
    record = find_commit(storage, fingerprint=fingerprint, unit=unit)
    if record is None:
        raise StorageError(f"{storage.uri}/{commit_path(unit)}: vanished while it was read. Is a repair running?")
    return record


def _check_balance(
    unit: Unit, results: Sequence[Result], failures: Sequence[SampleFailure], kind: UnitKind[Result]
) -> None:
    """Planned = ok + errors, no sample twice, and every sample with the same number of rows."""
    counts = Counter([*(result.sample_id for result in results), *(failure.sample_id for failure in failures)])
    twice = [sample_id for sample_id, count in counts.items() if count > 1]
    if len(results) + len(failures) != unit.num_samples or twice:
        raise IncompleteError(
            f"{unit.name}: planned {unit.num_samples} samples, got {len(results)} results and {len(failures)} errors"
            + (f", {len(twice)} samples twice, e.g. {twice[0]!r}" if twice else "")
            + ". Nothing was committed."
        )
    shapes = {kind.shape_of(result) for result in results}
    if len(shapes) > 1:
        raise IncompleteError(
            f"{unit.name}: samples differ in their heads, groups, arms or repetitions: {sorted(shapes)[:3]}."
        )


@dataclass(frozen=True, slots=True)
class _Published:
    table: pa.Table
    file: CommittedFile


@dataclass(frozen=True, slots=True)
class _UnitFiles:
    """The files of one unit: published, or adopted when another attempt's are intact."""

    storage: Storage
    fingerprint: str
    unit: Unit
    kind: UnitKind[Any]

    def publish(self, name: str, table: pa.Table) -> _Published:
        """Publish our table, or adopt the file that is there when it is intact and about the same samples."""
        schema = load_schema(self.kind.schemas[name])
        path = f"{name}/{self.unit.name}.parquet"
        metadata = {
            "fingerprint": self.fingerprint,
            "unit": str(self.unit.unit_id),
            "schema": schema.id,
            "rows": str(table.num_rows),
        }
        data = to_bytes(table, metadata=metadata)
        parse(data, schema, source=f"{path} in memory")
        for _ in range(3):
            if self.storage.publish(path, data):
                return _described(path, data, table)
            found = self.storage.read(path)
            adopted = self._adopt(name, found, table)
            if adopted is not None:
                return _described(path, found, adopted)
            quarantine(self.storage, path, found)
        raise StorageError(f"{self.storage.uri}/{path}: found damaged three times. Check the disk.")

    def _adopt(self, name: str, found: bytes, ours: pa.Table) -> pa.Table | None:
        """The other attempt's table, or None when it is damaged, foreign or about other samples."""
        schema = load_schema(self.kind.schemas[name])
        try:
            table, metadata = parse(found, schema), read_metadata(found)
        except (StorageError, DataError):
            return None
        expected = {"fingerprint": self.fingerprint, "unit": str(self.unit.unit_id), "schema": schema.id}
        if {**metadata, **expected} != metadata or metadata.get("rows") != str(table.num_rows):
            return None
        same_samples = self.kind.rows_by_sample(name, table) == self.kind.rows_by_sample(name, ours)
        return table if same_samples or name == "errors" else None


def _described(path: str, data: bytes, table: pa.Table) -> _Published:
    digest = hashlib.sha256(data).hexdigest()
    return _Published(table, CommittedFile(path, bytes=len(data), sha256=digest, rows=table.num_rows))


def _follow(unit_files: _UnitFiles, results: Sequence[Result], errors: pa.Table) -> list[Result]:
    """Our results of the samples that the published errors file leaves. Raises StorageError when one is missing."""
    failed = unit_files.kind.rows_by_sample("errors", errors)
    num_planned = unit_files.unit.num_samples
    path = f"{unit_files.storage.uri}/errors/{unit_files.unit.name}.parquet"
    kept = [result for result in results if result.sample_id not in failed]
    if len(kept) + len(failed) != num_planned:
        raise StorageError(
            f"{path}: an earlier attempt measured samples that failed now ({len(kept)} ok and {len(failed)} errors of "
            f"{num_planned}). Run the unit again; if that does not help, run `rampipe repair` on the run."
        )
    return kept


def quarantine(storage: Storage, path: str, seen: bytes) -> None:
    """Move a file that must not be trusted out of the way, unless it has changed since it was `seen`."""
    digest = hashlib.sha256(seen).hexdigest()[:12]
    storage.publish(f"{QUARANTINE_FOLDER}/{path}.{digest}", seen)
    if storage.size(path) is not None and storage.read(path) == seen:
        storage.delete(path)
