"""The end of a run: `_SUCCESS.json`, written only when the run is whole, last of all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rampipe.errors import IncompleteError, StorageError
from rampipe.tables.balance import balance
from rampipe.tables.card import write_card
from rampipe.tables.fingerprint import fingerprint
from rampipe.tables.record import CommitRecord, read_commits
from rampipe.tables.run import Run
from rampipe.tables.storage import Storage
from rampipe.tables.unit_kind import CAPTURE

SUCCESS_PATH = "_SUCCESS.json"


@dataclass(frozen=True, slots=True)
class Success:
    """What a finished run is. `commits_sha256` identifies its content: later stages are made from it."""

    fingerprint: str
    commits_sha256: str
    num_ok: int
    num_errors: int
    num_rows: int


def finish_run(run: Run) -> Success:
    """Check the balance, then write the dataset card and `_SUCCESS.json`; finishing twice changes nothing.

    Raises IncompleteError with the numbers when units are missing or do not add up, StorageError when `_SUCCESS.json`
    is about other files.
    """
    commits = read_commits(run.storage)
    account = balance(run, commits)
    if not account.complete:
        raise IncompleteError(
            f"run {run.storage.uri}: {account.num_committed} of {account.num_units} units, {account.num_ok} ok + "
            f"{account.num_errors} errors of {account.num_samples} samples, {account.num_rows} rows. "
            f"{'; '.join(account.problems[:5])}. Run the same command again; it goes on where it stopped."
        )
    if run.kind is CAPTURE:  # the others are stages of the run whose card they are on
        write_card(run, account)
    content = success_content(run, commits)
    run.storage.publish(SUCCESS_PATH, json.dumps(content, indent=1, sort_keys=True).encode() + b"\n")
    success = read_success(run.storage)
    if success is None or success.commits_sha256 != content["commits_sha256"]:
        raise StorageError(f"{run.storage.uri}/{SUCCESS_PATH}: is about other files. Run `rampipe repair` on the run.")
    return success


def success_content(run: Run, commits: Mapping[int, CommitRecord]) -> dict[str, Any]:
    """What `_SUCCESS.json` has to say: the same rows in the same files give the same, whoever computed them when."""
    units: list[dict[str, Any]] = [
        {"unit_id": record.unit_id, "files": [asdict(file) for file in record.files]} for record in commits.values()
    ]
    return {
        "fingerprint": run.fingerprint,
        "commits_sha256": fingerprint({"units": units}),
        "num_ok": sum(record.num_ok for record in commits.values()),
        "num_errors": sum(record.num_errors for record in commits.values()),
        "num_rows": sum(record.num_rows for record in commits.values()),
        "units": units,
        **({} if run.stopped is None else {"stopped": run.stopped.sentence}),
    }


def read_success(storage: Storage) -> Success | None:
    """The success record of a run, None while there is none. Raises StorageError when it is damaged."""
    if storage.size(SUCCESS_PATH) is None:
        return None
    try:
        raw = json.loads(storage.read(SUCCESS_PATH))
        if fingerprint({"units": raw["units"]}) != raw["commits_sha256"]:
            raise ValueError("hash")
        return Success(**{name: raw[name] for name in Success.__slots__})
    except (ValueError, KeyError, TypeError):
        raise StorageError(
            f"{storage.uri}/{SUCCESS_PATH}: damaged or edited: its list of files does not give its hash. "
            f"Run `rampipe repair` on the run."
        ) from None
