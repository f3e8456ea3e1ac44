"""Whether a run is whole: planned samples = measured + failed, and rows = measured × rows per sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rampipe.tables.record import CommitRecord, read_commits
from rampipe.tables.run import Run


@dataclass(frozen=True, slots=True)
class Balance:
    """The account of a run. `problems` is empty when everything planned is committed and adds up."""

    num_units: int
    num_committed: int
    num_samples: int
    num_ok: int
    num_errors: int
    num_rows: int
    num_bytes: int
    problems: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Everything planned is done and adds up."""
        return not self.problems

    @property
    def error_frac(self) -> float | None:
        """Share of failed samples among the finished ones; None before the first one."""
        done = self.num_ok + self.num_errors
        return self.num_errors / done if done else None


def balance(run: Run, commits: Mapping[int, CommitRecord] | None = None) -> Balance:
    """Account for a run from its plan and its commit records, which are read when they are not given."""
    records = read_commits(run.storage) if commits is None else commits
    planned = {unit.unit_id: unit.num_samples for unit in run.units}
    problems: list[str] = []
    missing, foreign = sorted({*planned} - {*records}), sorted({*records} - {*planned})
    if missing:
        problems.append(f"{len(missing)} of {len(planned)} units are not committed: {_some(missing)}")
    if foreign:
        problems.append(f"{len(foreign)} committed units are not in the plan: {_some(foreign)}")
    for unit_id, record in records.items():
        if record.fingerprint != run.fingerprint:
            problems.append(f"unit {unit_id} has fingerprint {record.fingerprint[:12]}, not {run.fingerprint[:12]}")
        if record.num_ok + record.num_errors != planned.get(unit_id, record.num_ok + record.num_errors):
            problems.append(
                f"unit {unit_id}: planned {planned[unit_id]} = {record.num_ok} ok + {record.num_errors} errors"
            )
        if record.num_rows != record.num_ok * run.rows_per_sample:
            problems.append(f"unit {unit_id}: {record.num_rows} rows = {record.num_ok} ok × {run.rows_in_words}")
    return Balance(
        num_units=len(planned),
        num_committed=len(planned) - len(missing),
        num_samples=run.num_samples,
        num_ok=_total(records.values(), "num_ok"),
        num_errors=_total(records.values(), "num_errors"),
        num_rows=_total(records.values(), "num_rows"),
        num_bytes=sum(file.bytes for record in records.values() for file in record.files),
        problems=tuple(problems),
    )


def _total(records: Iterable[CommitRecord], name: str) -> int:
    return sum(getattr(record, name) for record in records)


def _some(unit_ids: Sequence[int]) -> str:
    return ", ".join(str(unit_id) for unit_id in unit_ids[:10]) + (", ..." if len(unit_ids) > 10 else "")
