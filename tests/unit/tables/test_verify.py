from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from rampipe.errors import StorageError
from rampipe.tables.commit import commit_unit
from rampipe.tables.finish import finish_run
from rampipe.tables.parquet import read_metadata, to_bytes
from rampipe.tables.read import open_run
from rampipe.tables.repair import repair
from rampipe.tables.rows import errors_table, head_stats_table, samples_table
from rampipe.tables.rowset import RowSetHash
from rampipe.tables.run import Run, create_run
from rampipe.tables.verify import row_set_hash, verify
from tests.unit.tables.earlier import into_earlier
from tests.unit.tables.synthetic import PROVENANCE, capture, commit, result, spec

Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, Damage] = {
    "truncated": lambda data: data[:-200],
    "emptied": lambda data: b"",
    "zeroed": lambda data: bytes(len(data)),
    "bit-flipped": lambda data: data[:700] + bytes([data[700] ^ 4]) + data[701:],
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return capture(str(tmp_path))


def test_an_untouched_run_passes(run: Run) -> None:
    report = verify(run.storage)
    assert report.ok
    assert (report.num_intact, report.num_units) == (3, 3)
    assert report.row_set_hash == row_set_hash(run.storage)


@pytest.mark.fault("F17")
@pytest.mark.parametrize(
    ("table", "kind"), [*(("head_stats", kind) for kind in DAMAGES), ("samples", "bit-flipped"), ("errors", "emptied")]
)
def test_damage_is_found_and_repair_redoes_that_unit_only(run: Run, table: str, kind: str) -> None:
    expected, path, damage = row_set_hash(run.storage), f"{table}/unit-000001.parquet", DAMAGES[kind]
    untouched = {name: run.storage.read(name) for name in run.storage.list("_commits") if "000001" not in name}
    run.storage.replace(path, damage(run.storage.read(path)))
    report = verify(run.storage)
    assert report.damaged_units == (1,)
    assert any(path in problem for problem in report.problems)
    with pytest.raises(StorageError, match=path):
        row_set_hash(run.storage)
    with pytest.raises(StorageError, match=path):
        open_run(run.storage.uri, check="sha256")

    assert repair(run.storage).units == (1,)
    assert run.storage.list("_quarantine") != []
    assert not verify(run.storage).ok
    commit(run, run.units[1])
    finish_run(run)
    assert verify(run.storage).problems == ()
    assert row_set_hash(run.storage) == expected
    assert {name: run.storage.read(name) for name in untouched} == untouched


def test_repair_of_an_intact_run_moves_nothing(run: Run) -> None:
    assert repair(run.storage).moved == ()
    assert verify(run.storage).ok


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b'{"files": 3}'])
def test_a_damaged_commit_record_is_found(run: Run, content: bytes) -> None:
    run.storage.replace("_commits/unit-000002.json", content)
    report = verify(run.storage)
    assert any("_commits/unit-000002.json" in problem for problem in report.problems)
    assert any("1 of 3 units are not committed: 2" in problem for problem in report.problems)
    assert repair(run.storage).units == (2,)


def test_a_missing_file_and_a_record_under_a_wrong_name_are_found(run: Run) -> None:
    run.storage.delete("samples/unit-000000.parquet")
    run.storage.publish("_commits/unit-000007.json", run.storage.read("_commits/unit-000001.json"))
    problems = verify(run.storage).problems
    assert any("samples/unit-000000.parquet: not found" in problem for problem in problems)
    assert any("is the record of unit 1" in problem for problem in problems)


def test_strangers_are_found(run: Run) -> None:
    run.storage.publish("head_stats/unit-000099.parquet", b"?")
    run.storage.publish("samples/note.txt", b"?")
    problems = verify(run.storage).problems
    assert len(problems) == 2
    assert all("a stranger" in problem for problem in problems)
    repair(run.storage)
    assert verify(run.storage).ok


def test_files_of_another_run_in_place_of_ours_are_found(run: Run, tmp_path: Path) -> None:
    other = capture(str(tmp_path / "other"), spec(inputs={"another": "model"}))
    for path in ("head_stats/unit-000000.parquet", "_commits/unit-000000.json"):
        run.storage.replace(path, other.storage.read(path))
    report = verify(run.storage)
    assert report.damaged_units == (0,)
    assert any("belongs to another run" in problem for problem in report.problems)


def test_an_unfinished_run_is_no_success(tmp_path: Path) -> None:
    run = create_run(str(tmp_path), spec())
    commit(run, run.units[0])
    report = verify(run.storage)
    assert any("not finished" in problem for problem in report.problems)
    assert report.damaged_units == ()


def test_published_but_uncommitted_files_are_left_to_the_next_attempt(tmp_path: Path, run: Run) -> None:
    half = create_run(str(tmp_path / "half"), spec())
    half.storage.publish("errors/unit-000000.parquet", run.storage.read("errors/unit-000000.parquet"))
    assert not any("stranger" in problem for problem in verify(half.storage).problems)


@pytest.mark.parametrize("order", [[2, 1, 0], [0, 0, 1, 2, 1, 0]])
def test_order_and_repetition_of_units_do_not_change_the_rows(run: Run, tmp_path: Path, order: list[int]) -> None:
    assert row_set_hash(capture(str(tmp_path / "other"), order=order).storage) == row_set_hash(run.storage)


@pytest.mark.parametrize("unit_samples", [1, 5, 12])
def test_the_cut_into_units_does_not_change_the_rows(run: Run, tmp_path: Path, unit_samples: int) -> None:
    other = capture(str(tmp_path / "other"), spec(unit_samples=unit_samples))
    assert row_set_hash(other.storage) == row_set_hash(run.storage)


def hash_of(head_stats: pa.Table, *, times: int = 1) -> str:
    rows = RowSetHash()
    for _ in range(times):
        rows.add(head_stats=head_stats, samples=samples_table([result(1)]), errors=errors_table([]))
    return rows.hexdigest()


def changed(table: pa.Table, column: str, value: object) -> pa.Table:
    rows = table.to_pylist()
    rows[4][column] = value
    return pa.Table.from_pylist(rows, schema=table.schema)


def test_the_hash_sees_every_column_null_and_duplicates_but_not_the_order_of_rows() -> None:
    table = head_stats_table([result(1), result(2)])
    shuffled = table.take(pa.array([*reversed(range(table.num_rows))]))
    assert hash_of(shuffled) == hash_of(table)
    assert hash_of(table, times=2) != hash_of(table)
    new = {"sample_id": "x", "domain": "x", "query": "answer", "layer": 7, "head": 7}
    for name in table.column_names:
        assert hash_of(changed(table, name, new.get(name, 0.5))) != hash_of(table), name
    zero, null = changed(table, "mass_evidence", 0.0), changed(table, "mass_evidence", None)
    assert hash_of(zero) != hash_of(null)


@pytest.mark.fault("F17")
def test_a_file_that_was_replaced_by_a_valid_one_is_found(run: Run) -> None:
    """Right keys and metadata, its new size in the record, every page checksum right: only the hash tells."""
    path, commit_file = "samples/unit-000001.parquet", "_commits/unit-000001.json"
    changed = samples_table([replace(result(row), num_tokens=7) for row in range(4, 8)])
    made = to_bytes(changed, metadata=read_metadata(run.storage.read(path)))
    record = json.loads(run.storage.read(commit_file))
    for file in record["files"]:
        file["bytes"] = len(made) if file["path"] == path else file["bytes"]
    run.storage.replace(path, made)
    run.storage.replace(commit_file, json.dumps(record).encode())
    problems = [problem for problem in verify(run.storage).problems if "_SUCCESS" not in problem]
    assert len(problems) == 1
    assert f"{path}: its bytes have changed since they were committed (sha256 differs)" in problems[0]


def test_a_sample_in_two_units_is_found(tmp_path: Path) -> None:
    """Each unit is right by itself; one of them was measured on rows of the other."""
    run = create_run(str(tmp_path), spec())
    for unit in run.units:
        rows = range(4) if unit.unit_id == 1 else range(unit.row_start, unit.row_stop)
        commit_unit(
            run.storage,
            fingerprint=run.fingerprint,
            unit=unit,
            results=[result(row) for row in rows],
            failures=[],
            provenance=PROVENANCE,
        )
    finish_run(run)
    problems = verify(run.storage).problems
    assert any("sample '../läufe/0': in unit 0 and in unit 1" in problem for problem in problems)


def test_a_damaged_run_of_an_earlier_version_is_left_as_it_is(tmp_path: Path) -> None:
    run = into_earlier(capture(str(tmp_path)))
    assert repair(run.storage).moved == ()  # twin: nothing is wrong yet
    run.storage.replace("head_stats/unit-000001.parquet", b"damaged")
    before = files_of(run)
    with pytest.raises(StorageError, match=r"head_stats\.v2.*while the run has.*head_stats\.v1.*nothing was moved"):
        repair(run.storage)
    assert files_of(run) == before


def files_of(run: Run) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(run.storage.uri).rglob("*") if path.is_file()}
