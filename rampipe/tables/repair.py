"""Moves what cannot be trusted out of the way, so that the next capture computes exactly those units again."""

from __future__ import annotations

from dataclasses import dataclass

from rampipe.errors import StorageError
from rampipe.tables.commit import quarantine
from rampipe.tables.finish import SUCCESS_PATH, read_success, success_content
from rampipe.tables.record import COMMITS_FOLDER, CommitRecord, read_commit
from rampipe.tables.run import Run, open_run_dir
from rampipe.tables.storage import TMP_FOLDER, Storage
from rampipe.tables.verify import check_unit, strangers


@dataclass(frozen=True, slots=True)
class RepairReport:
    """Units to compute again, and the files that were moved to `_quarantine/`."""

    units: tuple[int, ...]
    moved: tuple[str, ...]


def repair(storage: Storage) -> RepairReport:
    """Quarantine damaged units, and files that no commit names. Intact units are not touched.

    Also clears `_tmp/`, where a killed process leaves its half-written file. Only while no capture is running: it would
    take away the files of a unit that is about to be committed.
    Raises StorageError for damage to a run of an earlier schema version, whose units this one cannot compute again.
    """
    run = open_run_dir(storage)
    units = {unit.unit_id: unit for unit in run.units}
    intact: dict[int, CommitRecord] = {}
    moved: list[str] = []
    for path in storage.list(COMMITS_FOLDER):
        try:
            record = read_commit(storage, path)
            problems, _ = check_unit(run, units.get(record.unit_id), record)
        except StorageError:
            record, problems = None, ["damaged record"]
        if record is not None and not problems:
            intact[record.unit_id] = record
        else:
            moved.append(path)
    moved += strangers(run, intact)
    if _success_is_wrong(storage, run_content=success_content(run, dict(sorted(intact.items())))["commits_sha256"]):
        moved.insert(0, SUCCESS_PATH)
    _refuse_earlier(run, moved)
    for path in moved:
        quarantine(storage, path, storage.read(path))
    for path in storage.list(TMP_FOLDER):
        storage.delete(path)
    return RepairReport(tuple(sorted({*units} - {*intact})), tuple(moved))


def _refuse_earlier(run: Run, damaged: list[str]) -> None:
    if not damaged or dict(run.schemas) == dict(run.kind.schemas):
        return
    raise StorageError(
        f"{run.storage.uri}: {damaged[0]} is damaged or nobody's, and this version writes tables "
        f"{sorted(run.kind.schemas.values())}, while the run has {sorted(run.schemas.values())}: what is moved away "
        "could not be computed again, so nothing was moved. Repair it with rampipe "
        f"{run.versions.get('rampipe', 'of its time')}."
    )


def _success_is_wrong(storage: Storage, *, run_content: str) -> bool:
    try:
        success = read_success(storage)
    except StorageError:
        return True
    return success is not None and success.commits_sha256 != run_content
