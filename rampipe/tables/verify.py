"""Reads a whole run again and compares it with its records: sizes, hashes, checksums, keys, balance, strangers, and the
chain from later stages back to the rows that they were made from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from rampipe.errors import DataError, StorageError
from rampipe.tables.balance import balance
from rampipe.tables.chain import judged_problems, judged_runs, read_stages, stage_problems
from rampipe.tables.finish import SUCCESS_PATH, read_success, success_content
from rampipe.tables.parquet import parse, read_metadata
from rampipe.tables.record import COMMITS_FOLDER, CommitRecord, CommittedFile, read_commit, read_commits
from rampipe.tables.rowset import RowSetHash
from rampipe.tables.run import Run, open_run_dir
from rampipe.tables.schema import load_schema
from rampipe.tables.storage import Storage
from rampipe.types import Unit


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found. `row_set_hash` is over the units that are intact; `problems` name files or units."""

    num_units: int
    num_intact: int
    damaged_units: tuple[int, ...]
    row_set_hash: str
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the run is finished and everything in it is what its records say."""
        return not self.problems


def verify(storage: Storage) -> VerifyReport:
    """Read every committed byte of a run. Damage is reported, not raised; StorageError when it is not a run at all."""
    run = open_run_dir(storage)
    rows, problems, damaged = RowSetHash(), list[str](), list[int]()
    records: dict[int, CommitRecord] = {}
    owners: dict[str, int] = {}
    units = {unit.unit_id: unit for unit in run.units}
    for path in storage.list(COMMITS_FOLDER):
        try:
            record = read_commit(storage, path)
        except StorageError as error:
            problems.append(str(error))
            continue
        records[record.unit_id] = record
        found, tables = check_unit(run, units.get(record.unit_id), record)
        for sample_id in _measured(run, tables) if tables else ():
            if owners.setdefault(sample_id, record.unit_id) != record.unit_id:
                found.append(f"sample {sample_id!r}: in unit {owners[sample_id]} and in unit {record.unit_id}")
        problems += found
        damaged += [record.unit_id] if found else []
        if tables and not found:
            rows.add_rows(**tables)
    records = dict(sorted(records.items()))
    problems += balance(run, records).problems
    problems += _strangers(run, records)
    problems += _check_success(run, records)
    problems += _check_stages(run, records)
    return VerifyReport(len(units), len(records) - len(damaged), tuple(damaged), rows.hexdigest(), tuple(problems))


def _check_stages(run: Run, records: dict[int, CommitRecord]) -> Iterator[str]:
    """Of a capture: its stages, and the runs of answers and timings that they judged, which are verified too."""
    stages, damaged = read_stages(run.storage)
    yield from damaged
    yield from stage_problems(run, records, stages)
    for folder, rows in judged_runs(stages):
        storage = run.storage.child(folder)
        try:
            yield from verify(storage).problems
            success = read_success(storage)
            found = None if success is None else success.commits_sha256
            yield from judged_problems(run, open_run_dir(storage), rows=rows, success=found)
        except StorageError as error:
            yield str(error)


def row_set_hash(storage: Storage) -> str:
    """sha256 over all committed rows; the order, the units and the files they lie in do not matter.

    Raises StorageError when a committed file is not what its record says.
    """
    run, rows = open_run_dir(storage), RowSetHash()
    for record in read_commits(storage).values():
        rows.add_rows(**{name: _read(run, _file_of(run, record, name), name) for name in run.schemas})
    return rows.hexdigest()


def check_unit(run: Run, unit: Unit | None, record: CommitRecord) -> tuple[list[str], dict[str, pa.Table]]:
    """Problems of one committed unit, and its tables when all of them could be read."""
    if unit is None or record.fingerprint != run.fingerprint:
        return [f"unit {record.unit_id}: its commit belongs to another run"], {}
    problems, tables = list[str](), dict[str, pa.Table]()
    for name, schema_id in run.schemas.items():
        path = f"{name}/{unit.name}.parquet"
        try:
            file = _file_of(run, record, name)
            tables[name] = _read(run, file, name)
            metadata = read_metadata(run.storage.read(path), source=path)
        except (StorageError, DataError) as error:
            problems.append(str(error))
            continue
        expected = {"fingerprint": run.fingerprint, "unit": str(unit.unit_id), "schema": schema_id}
        if file.path != path or {**metadata, **expected} != metadata:
            problems.append(f"{run.storage.uri}/{file.path}: its metadata is of another run, unit or table")
        if tables[name].num_rows != file.rows:
            problems.append(f"{run.storage.uri}/{file.path}: {tables[name].num_rows} rows, recorded {file.rows}")
    if problems:
        return problems, {}
    return list(_check_rows(run, unit, tables)), tables


def _check_rows(run: Run, unit: Unit, tables: dict[str, pa.Table]) -> Iterator[str]:
    """Keys are unique, and the tables agree about the samples."""
    for name, schema_id in run.schemas.items():
        keys = list(load_schema(schema_id).key)
        num_distinct = tables[name].select(keys).group_by(keys, use_threads=False).aggregate([]).num_rows
        if num_distinct != tables[name].num_rows:
            yield f"{unit.name}: {name} has {tables[name].num_rows - num_distinct} duplicate keys"
    measured = _measured(run, tables)
    counts = run.kind.rows_by_sample(run.kind.counted, tables[run.kind.counted])
    if measured != {*counts}:
        yield f"{unit.name}: samples and {run.kind.counted} are about different samples"
    if measured & {*run.kind.rows_by_sample("errors", tables["errors"])}:
        yield f"{unit.name}: a sample is both measured and failed"
    for row in tables["errors"].select(["shard", "row"]).to_pylist():
        if row["shard"] != unit.shard or not unit.row_start <= row["row"] < unit.row_stop:
            yield f"{unit.name}: errors has row {row['row']} of {row['shard']!r}, which is another unit's"
    if {*counts.values()} - {run.rows_per_sample}:
        yield f"{unit.name}: a sample does not have {run.rows_in_words} rows"


def _measured(run: Run, tables: dict[str, pa.Table]) -> set[str]:
    first = next(iter(run.kind.tables))
    return {*run.kind.rows_by_sample(first, tables[first])}


def _file_of(run: Run, record: CommitRecord, table: str) -> CommittedFile:
    files = [file for file in record.files if file.path.startswith(f"{table}/")]
    if len(files) != 1 or len(record.files) != len(run.schemas):
        raise StorageError(f"unit {record.unit_id}: its commit names {len(files)} files of {table}, not one.")
    return files[0]


def _read(run: Run, file: CommittedFile, table: str) -> pa.Table:
    """A committed file, compared with its record. Raises StorageError naming it."""
    source = f"{run.storage.uri}/{file.path}"
    data = run.storage.read(file.path)
    if len(data) != file.bytes:
        raise StorageError(f"{source}: {len(data)} bytes, committed were {file.bytes}.")
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise StorageError(f"{source}: its bytes have changed since they were committed (sha256 differs).")
    return parse(data, load_schema(run.schemas[table]), source=source)


def strangers(run: Run, records: dict[int, CommitRecord]) -> list[str]:
    """Paths in the table folders that no commit names: of another run, or published by an attempt that died."""
    known = {file.path for record in records.values() for file in record.files}
    return [path for name in run.schemas for path in run.storage.list(name) if path not in known]


def _strangers(run: Run, records: dict[int, CommitRecord]) -> Iterator[str]:
    """Published files of units that are still to be committed are no problem: the next attempt adopts them."""
    open_units = {unit.name for unit in run.units if unit.unit_id not in records}
    for path in strangers(run, records):
        folder, _, name = path.partition("/")
        if name.removesuffix(".parquet") not in open_units:
            yield f"{run.storage.uri}/{path}: a stranger in {folder}/: no commit names it"


def _check_success(run: Run, records: dict[int, CommitRecord]) -> Iterator[str]:
    try:
        success = read_success(run.storage)
    except StorageError as error:
        yield str(error)
        return
    if success is None:
        yield f"{run.storage.uri}: not finished: no {SUCCESS_PATH}"
    elif success.commits_sha256 != success_content(run, records)["commits_sha256"]:
        yield f"{run.storage.uri}/{SUCCESS_PATH}: is about other files than the commits"
