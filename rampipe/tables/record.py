"""The commit record: one small JSON file per unit, whose existence is the commit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rampipe.errors import StorageError
from rampipe.tables.fingerprint import canonical_json
from rampipe.tables.stopped import read_stopped
from rampipe.tables.storage import Storage
from rampipe.types import Unit

COMMITS_FOLDER = "_commits"


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """One file of a unit as it was when it was committed."""

    path: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """Who computed a unit, and how long it took: recorded, never part of the fingerprint.

    seconds: for which it had its device: computing (`forward_s`), and waiting for rows or for the driver (`wait_s`).
    None where that was not measured.
    """

    attempt: int
    node: str
    device: str
    versions: Mapping[str, str]
    seconds: float
    forward_s: float | None = None
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """What one unit gave. `num_rows`: rows of the table that its kind of run counts. `commit_s`: seconds of writing its
    tables, while the device computed the next unit.
    """

    unit_id: int
    fingerprint: str
    files: tuple[CommittedFile, ...]
    num_ok: int
    num_errors: int
    num_rows: int
    attempt: int
    node: str
    device: str
    versions: Mapping[str, str]
    seconds: float
    forward_s: float | None = None
    wait_s: float | None = None
    commit_s: float | None = None

    def to_json(self) -> bytes:
        """The bytes of the commit file."""
        return canonical_json(asdict(self)) + b"\n"

    @classmethod
    def from_json(cls, data: bytes, *, source: str) -> CommitRecord:
        """Parse a commit file. Raises StorageError naming `source` when it is damaged."""
        try:
            raw = json.loads(data)
            raw["files"] = tuple(CommittedFile(**file) for file in raw["files"])
            return cls(**raw)
        except (ValueError, TypeError, KeyError):
            raise StorageError(
                f"{source}: {len(data)} bytes are not a commit record. Run `rampipe repair` on the run."
            ) from None

    def path_of(self, table: str) -> str:
        """Path of this unit's file of one table."""
        return next(file.path for file in self.files if file.path.startswith(f"{table}/"))


def commit_path(unit: Unit) -> str:
    """Where the commit record of a unit is."""
    return f"{COMMITS_FOLDER}/{unit.name}.json"


def read_commit(storage: Storage, path: str) -> CommitRecord:
    """One commit record. Raises StorageError when it is damaged or names another unit than its file."""
    return _parsed(storage, path, storage.read(path))


def _parsed(storage: Storage, path: str, data: bytes) -> CommitRecord:
    source = f"{storage.uri}/{path}"
    record = CommitRecord.from_json(data, source=source)
    if path != f"{COMMITS_FOLDER}/unit-{record.unit_id:06d}.json":
        raise StorageError(f"{source}: is the record of unit {record.unit_id}. Run `rampipe repair` on the run.")
    return record


def read_commits(storage: Storage) -> dict[int, CommitRecord]:
    """All commit records by unit, sorted: the only truth about what is done. Of a stopped run, those that count."""
    stopped = read_stopped(storage)
    counted = None if stopped is None else {*stopped.unit_ids}
    paths = storage.list(COMMITS_FOLDER)
    records = [_parsed(storage, path, data) for path, data in zip(paths, storage.read_many(paths), strict=True)]
    return {
        record.unit_id: record
        for record in sorted(records, key=lambda record: record.unit_id)
        if counted is None or record.unit_id in counted
    }
