"""A real S3 server on loopback: conditional puts, a whole run, and Polars reading it back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from rampipe import open_run
from rampipe.errors import StorageError
from rampipe.tables.derived import publish_stage, stage_is_current
from rampipe.tables.local import LocalStorage
from rampipe.tables.repair import repair
from rampipe.tables.rows import samples_table
from rampipe.tables.run import create_run
from rampipe.tables.storage import Storage, open_storage, probe
from rampipe.tables.verify import row_set_hash, verify
from tests.s3_server import s3_server
from tests.unit.tables.synthetic import capture, commit, result, spec


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server():
        yield "s3://bucket"


@pytest.fixture
def storage(bucket: str, request: pytest.FixtureRequest) -> Storage:
    return open_storage(f"{bucket}/{request.node.name}")


def test_a_conditional_put_has_one_winner(storage: Storage) -> None:
    assert storage.publish("a/b.bin", b"first")
    assert not storage.publish("a/b.bin", b"second")
    assert storage.read("a/b.bin") == b"first"
    contents = [bytes([number]) * 10_000 for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(lambda content: storage.publish("race", content), contents))
    assert won.count(True) == 1
    assert storage.read("race") == contents[won.index(True)]


def test_the_methods_agree_with_a_folder(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> None:
    for made in (storage, LocalStorage(tmp_path_factory.mktemp("folder"))):
        made.publish("x/b", b"22")
        made.publish("x/y/a", b"1")
        made.publish("xx", b"1")
        made.replace("x/b", b"333")
        assert made.sizes("x") == {"x/b": 3, "x/y/a": 1}
        times = made.changed_s("x")
        assert {*times} == {"x/b", "x/y/a"}
        assert all(abs(written_s - time.time()) < 3600 for written_s in times.values())
        assert made.read_many(["x/y/a", "x/b"]) == [b"1", b"333"]
        assert made.read_many(["x/b"]) == [b"333"]
        assert made.read_many([]) == []
        assert made.list("nowhere") == []
        assert made.size("x/z") is None
        assert made.child("x").read("y/a") == b"1"
        made.delete("x/b")
        made.delete("x/b")
        assert made.list("x") == ["x/y/a"]
        with pytest.raises(StorageError, match="x/z: not found"):
            made.read("x/z")
        with pytest.raises(StorageError, match="leaves the storage root"):
            made.publish("../x", b"")


def test_the_probe_passes_and_a_missing_bucket_is_named(storage: Storage) -> None:
    probe(storage)
    with pytest.raises(StorageError, match="s3://no-such-bucket/x"):
        probe(open_storage("s3://no-such-bucket/x"))


def test_a_run_on_s3_has_the_rows_of_a_run_in_a_folder(
    storage: Storage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = capture(storage.uri, order=[1, 0, 2, 0])
    local = capture(str(tmp_path_factory.mktemp("folder")))
    assert verify(run.storage).problems == ()
    assert row_set_hash(run.storage) == row_set_hash(local.storage)
    opened = open_run(run.storage.uri, check="sha256")
    assert opened.head_stats.collect().equals(open_run(local.storage.uri).head_stats.collect())
    assert opened.errors.collect().height == 2
    assert opened.plan.collect().height == 3


@pytest.mark.fault("F17")
def test_a_damaged_object_is_found_and_repaired(storage: Storage) -> None:
    run = capture(storage.uri)
    expected, path = row_set_hash(run.storage), "head_stats/unit-000001.parquet"
    run.storage.replace(path, run.storage.read(path)[:-50])
    assert verify(run.storage).damaged_units == (1,)
    assert repair(run.storage).units == (1,)
    capture(storage.uri)
    assert row_set_hash(run.storage) == expected


@pytest.mark.fault("F9")
def test_eight_attempts_on_s3_make_one_unit(storage: Storage) -> None:
    run = create_run(storage, spec(unit_samples=12))
    with ThreadPoolExecutor(8) as pool:
        records = list(pool.map(lambda number: commit(run, run.units[0], salt=str(number)), range(8)))
    assert all(record == records[0] for record in records)
    row_set_hash(run.storage)


def test_stages_are_replaced_on_s3(storage: Storage) -> None:
    publish_stage(storage, "ranking", {"samples": samples_table([result(1)])}, {"a": 1})
    publish_stage(storage, "ranking", {"samples": samples_table([result(2)])}, {"a": 2})
    assert stage_is_current(storage, "ranking", {"a": 2})
    assert not stage_is_current(storage, "ranking", {"a": 1})
