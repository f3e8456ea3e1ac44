from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from rampipe.errors import IncompleteError, StorageError
from rampipe.tables.commit import commit_unit, find_commit, read_commits
from rampipe.tables.failpoint import EXIT_CODE, FAILPOINTS
from rampipe.tables.finish import finish_run
from rampipe.tables.local import LocalStorage
from rampipe.tables.repair import repair
from rampipe.tables.run import Run, create_run
from rampipe.tables.verify import row_set_hash, verify
from tests.unit.tables.synthetic import FAILED_ROWS, PROVENANCE, capture, commit, failure, result, spec

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def golden_hash(tmp_path_factory: pytest.TempPathFactory) -> str:
    return row_set_hash(capture(str(tmp_path_factory.mktemp("golden"))).storage)


def start_capture(out: Path, *flags: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "tests.unit.tables.synthetic", str(out), *flags], cwd=ROOT)


def modified(run: Run) -> dict[str, tuple[int, bytes]]:
    storage = run.storage
    assert isinstance(storage, LocalStorage)
    paths = [*storage.list("_commits"), *(path for name in ("head_stats", "errors") for path in storage.list(name))]
    return {path: ((storage.root / path).stat().st_mtime_ns, storage.read(path)) for path in paths}


def test_a_record_says_what_is_on_disk_and_a_second_commit_changes_nothing(tmp_path: Path) -> None:
    run = create_run(str(tmp_path), spec())
    unit = run.units[0]
    assert find_commit(run.storage, fingerprint=run.fingerprint, unit=unit) is None
    record = commit(run, unit)
    assert (record.num_ok, record.num_errors, record.num_rows) == (3, 1, 3 * 2 * 6)
    assert {file.path: run.storage.size(file.path) for file in record.files} == {
        file.path: file.bytes for file in record.files
    }
    before = modified(run)
    assert commit(run, unit, salt="another attempt") == record
    assert modified(run) == before
    assert read_commits(run.storage) == {0: record}


@pytest.mark.fault("F2")
@pytest.mark.parametrize("name", FAILPOINTS)
def test_a_death_at_any_step_loses_and_doubles_nothing(tmp_path: Path, golden_hash: str, name: str) -> None:
    process = start_capture(tmp_path, "--die-at", name)
    assert process.wait() == EXIT_CODE
    run = create_run(str(tmp_path), spec())
    committed = modified(run)
    assert len(run.storage.list("_commits")) == (2 if name == "after_commit" else 1)
    with pytest.raises(IncompleteError):
        finish_run(run)
    capture(str(tmp_path))
    assert row_set_hash(run.storage) == golden_hash
    assert verify(run.storage).problems == ()
    assert {path: seen for path, seen in modified(run).items() if path in committed} == committed
    assert len(run.storage.list("_tmp")) == (1 if name == "in_tmp" else 0)
    assert repair(run.storage).moved == ()
    assert run.storage.list("_tmp") == []


def test_a_failpoint_with_a_marker_fires_once(tmp_path: Path, golden_hash: str) -> None:
    flag = f"after_samples@{tmp_path / 'fired'}"
    assert start_capture(tmp_path / "out", "--die-at", flag).wait() == EXIT_CODE
    assert start_capture(tmp_path / "out", "--die-at", flag).wait() == 0
    assert row_set_hash(create_run(str(tmp_path / "out"), spec()).storage) == golden_hash


@pytest.mark.fault("F8")
def test_three_drivers_on_one_run_make_one_run(tmp_path: Path, golden_hash: str) -> None:
    drivers = [start_capture(tmp_path) for _ in range(3)]
    assert [driver.wait() for driver in drivers] == [0, 0, 0]
    run = create_run(str(tmp_path), spec())
    assert verify(run.storage).problems == ()
    assert row_set_hash(run.storage) == golden_hash


@pytest.mark.fault("F9")
def test_of_eight_attempts_with_different_floats_one_wins_whole_files(tmp_path: Path) -> None:
    run = create_run(str(tmp_path), spec(unit_samples=12))
    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(lambda number: commit(run, run.units[0], salt=str(number)), range(8)))
    assert all(record == records[0] for record in records)
    finish_run(run)
    assert verify(run.storage).problems == ()


def publish_errors_of_a_dead_attempt(tmp_path: Path, run: Run, *, failed: tuple[int, ...]) -> None:
    """As if an attempt had died between its errors file and its samples."""
    elsewhere = create_run(str(tmp_path / "elsewhere"), spec())
    path = commit(elsewhere, elsewhere.units[0], failed=failed).path_of("errors")
    assert run.storage.publish(path, elsewhere.storage.read(path))


def test_the_published_errors_decide_which_samples_are_measured(tmp_path: Path) -> None:
    run = create_run(str(tmp_path / "out"), spec())
    publish_errors_of_a_dead_attempt(tmp_path, run, failed=(1, 2))
    record = commit(run, run.units[0], failed=(1,))
    assert (record.num_ok, record.num_errors) == (2, 2)
    for unit in run.units[1:]:
        commit(run, unit)
    finish_run(run)
    assert verify(run.storage).problems == ()


def test_an_attempt_that_cannot_follow_the_published_errors_is_refused(tmp_path: Path) -> None:
    run = create_run(str(tmp_path / "out"), spec())
    publish_errors_of_a_dead_attempt(tmp_path, run, failed=(1,))
    with pytest.raises(StorageError, match="an earlier attempt measured samples that failed now"):
        commit(run, run.units[0], failed=(2,))
    assert run.storage.list("_commits") == []
    assert commit(run, run.units[0], failed=()).num_errors == 1


@pytest.mark.parametrize("leftover", [b"", b"PAR1 half a file", bytes(5000)])
def test_a_damaged_leftover_is_put_aside_and_published_again(tmp_path: Path, golden_hash: str, leftover: bytes) -> None:
    run = create_run(str(tmp_path), spec())
    for name in ("errors", "samples", "head_stats"):
        run.storage.publish(f"{name}/unit-000001.parquet", leftover)
    capture(str(tmp_path))
    assert row_set_hash(run.storage) == golden_hash
    assert len(run.storage.list("_quarantine")) == 3


def test_a_leftover_of_another_run_is_not_adopted(tmp_path: Path, golden_hash: str) -> None:
    foreign = capture(str(tmp_path / "foreign"), spec(inputs={"other": 1}))
    run = create_run(str(tmp_path / "out"), spec())
    path = "head_stats/unit-000002.parquet"
    run.storage.publish(path, foreign.storage.read(path))
    capture(str(tmp_path / "out"))
    assert row_set_hash(run.storage) == golden_hash
    assert verify(run.storage).problems == ()
    assert len(run.storage.list("_quarantine")) == 1


def test_results_that_are_not_the_units_samples_are_refused(tmp_path: Path) -> None:
    run = create_run(str(tmp_path), spec())

    def refuse(rows: list[int], failed: list[int], reason: str) -> None:
        with pytest.raises(IncompleteError, match=reason):
            commit_unit(
                run.storage,
                fingerprint=run.fingerprint,
                unit=run.units[0],
                results=[result(row) for row in rows],
                failures=[failure(row) for row in failed],
                provenance=PROVENANCE,
            )

    refuse([0, 1, 2], [], "planned 4 samples, got 3 results and 0 errors")
    refuse([0, 1, 2, 2], [], "1 samples twice")
    refuse([0, 1, 2], [2], "1 samples twice")
    assert run.storage.list("head_stats") == []


def test_samples_with_different_heads_are_refused(tmp_path: Path) -> None:
    run = create_run(str(tmp_path), spec(unit_samples=2))
    shorter = replace(result(1), groups={"last": result(1).groups["last"]})
    with pytest.raises(IncompleteError, match="differ in their heads"):
        commit_unit(
            run.storage,
            fingerprint=run.fingerprint,
            unit=run.units[0],
            results=[result(0), shorter],
            failures=[],
            provenance=PROVENANCE,
        )


def test_a_unit_without_a_measured_sample_is_committed_with_empty_tables(tmp_path: Path) -> None:
    run = create_run(str(tmp_path), spec())
    record = commit(run, run.units[0], failed=(0, 1, 2, 3))
    assert (record.num_ok, record.num_errors, record.num_rows) == (0, 4, 0)
    for unit in run.units[1:]:
        commit(run, unit, failed=())
    finish_run(run)
    assert verify(run.storage).problems == ()


def test_a_commit_of_another_fingerprint_or_size_is_refused(tmp_path: Path) -> None:
    run = create_run(str(tmp_path), spec())
    record = commit(run, run.units[0])
    with pytest.raises(StorageError, match="this run has 000000000000"):
        find_commit(run.storage, fingerprint="0" * 64, unit=run.units[0])
    os.truncate(tmp_path / run.run_id / record.path_of("samples"), 100)
    with pytest.raises(StorageError, match=r"samples/unit-000000\.parquet: has 100 bytes"):
        find_commit(run.storage, fingerprint=run.fingerprint, unit=run.units[0])


def test_the_synthetic_run_has_errors_in_two_units() -> None:
    assert {row // 4 for row in FAILED_ROWS} == {0, 2}
