"""How a run is going, from its files alone: works for one that is running, one that died, and one that is finished."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rampipe.errors import StorageError
from rampipe.tables.balance import Balance, balance
from rampipe.tables.chain import read_stages
from rampipe.tables.finish import read_success
from rampipe.tables.parquet import parse
from rampipe.tables.record import COMMITS_FOLDER, CommitRecord, read_commits
from rampipe.tables.run import Run, open_run_dir
from rampipe.tables.schema import load_schema
from rampipe.tables.storage import Storage

RECENT_COMMITS = 64
"""The rate is that of the last ones: earlier ones may be of another day, with other actors."""
PATIENCE = 10.0
"""So many times the recent time between two commits, and a minute, may pass before a run is taken for stopped."""


@dataclass(frozen=True, slots=True)
class Pace:
    """idle_s: since the last commit. samples_per_s, seconds_left: null while there are not two commits."""

    idle_s: float
    samples_per_s: float | None
    seconds_left: float | None
    is_stopped: bool


@dataclass(frozen=True, slots=True)
class Status:
    """error_codes: of the failed samples. pace: null before the first commit and after the end. stages: made so far."""

    run_id: str
    balance: Balance
    finished: bool
    error_codes: Mapping[str, int]
    pace: Pace | None
    stages: tuple[str, ...]

    def lines(self) -> list[str]:
        """What `rampipe status` prints."""
        account = self.balance
        codes = ", ".join(f"{code} {count}" for code, count in self.error_codes.items())
        made = [
            f"run: {self.run_id}",
            f"units: {account.num_committed} of {account.num_units}",
            f"samples: {account.num_ok} ok, {account.num_errors} errors of {account.num_samples}",
            f"rows: {account.num_rows}",
            f"bytes: {account.num_bytes}",
            *([f"errors: {codes}"] if codes else []),
            *([f"pace: {_pace_in_words(self.pace)}"] if self.pace is not None else []),
            *([f"stages: {', '.join(self.stages)}"] if self.stages else []),
        ]
        return [*made, f"finished: {'yes' if self.finished else 'no'}"]


def read_status(storage: Storage, *, now_s: float) -> Status:
    """The state of a run. now_s: seconds since 1970. Raises StorageError when it is no run."""
    run = open_run_dir(storage)
    commits = read_commits(storage)
    account, finished = balance(run, commits), read_success(storage) is not None
    return Status(
        run_id=run.run_id,
        balance=account,
        finished=finished,
        error_codes=_error_codes(run, commits),
        pace=None if finished else _pace(run, commits, account, now_s=now_s),
        stages=tuple(read_stages(storage)[0]),
    )


def _error_codes(run: Run, commits: Mapping[int, CommitRecord]) -> dict[str, int]:
    """The most frequent first; files that cannot be read count as `unreadable`, which `rampipe verify` explains."""
    counts = Counter[str]()
    for record in commits.values():
        if record.num_errors:
            path = record.path_of("errors")
            try:
                table = parse(run.storage.read(path), load_schema(run.schemas["errors"]), source=path)
            except StorageError:
                counts["unreadable"] += record.num_errors
                continue
            counts.update(table.column("code").to_pylist())
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _pace(run: Run, commits: Mapping[int, CommitRecord], account: Balance, *, now_s: float) -> Pace | None:
    changed_s = run.storage.changed_s(COMMITS_FOLDER)
    times = {unit: changed_s.get(f"{COMMITS_FOLDER}/unit-{unit:06d}.json") for unit in commits}
    known = sorted((time_s, unit) for unit, time_s in times.items() if time_s is not None)[-RECENT_COMMITS:]
    if not known:
        return None
    idle_s, span_s = max(0.0, now_s - known[-1][0]), known[-1][0] - known[0][0]
    num_samples = sum(commits[unit].num_ok + commits[unit].num_errors for _, unit in known[1:])
    rate = num_samples / span_s if span_s > 0 else None
    left = account.num_samples - account.num_ok - account.num_errors
    between_s = span_s / (len(known) - 1) if len(known) > 1 else 0.0
    return Pace(
        idle_s=idle_s,
        samples_per_s=rate,
        seconds_left=left / rate if rate else None,
        is_stopped=idle_s > 60.0 + PATIENCE * between_s,
    )


def _pace_in_words(pace: Pace) -> str:
    if pace.is_stopped:
        return f"no commit for {pace.idle_s:.0f} s: stopped, or one unit takes long; the same command goes on from here"
    if pace.samples_per_s is None or pace.seconds_left is None:
        return f"first commit {pace.idle_s:.0f} s ago"
    return (
        f"{pace.samples_per_s:.2f} samples/s, about {pace.seconds_left:.0f} s left, last commit {pace.idle_s:.0f} s ago"
    )
