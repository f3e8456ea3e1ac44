from __future__ import annotations

import errno
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rampipe.errors import ConfigError, StorageError
from rampipe.tables.local import LocalStorage
from rampipe.tables.storage import Storage, checked_path, explain, open_storage, probe


def test_the_first_writer_wins_and_nothing_is_left_over(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "new" / "run"))
    assert storage.publish("a/b.bin", b"first")
    assert not storage.publish("a/b.bin", b"second")
    assert storage.read("a/b.bin") == b"first"
    assert storage.list("_tmp") == []
    assert storage.sizes("a") == {"a/b.bin": 5}
    assert storage.size("a/c.bin") is None
    assert storage.list("nowhere") == []


def test_of_eight_writers_of_a_file_one_wins_and_its_content_is_whole(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    contents = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for index in range(20):
            won = list(pool.map(lambda content, path=f"f/{index}": storage.publish(path, content), contents))
            assert won.count(True) == 1
            assert storage.read(f"f/{index}") == contents[won.index(True)]


def test_replace_swaps_and_delete_forgives(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.replace("a.json", b"1")
    storage.replace("a.json", b"22")
    assert storage.read("a.json") == b"22"
    storage.delete("a.json")
    storage.delete("a.json")
    assert storage.size("a.json") is None


@pytest.mark.fault("B23")
@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "", "a//b", "a/./b", "a\\..\\b", "a\0b", "C:/x"])
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, path: str) -> None:
    storage = LocalStorage(tmp_path / "root")
    for attempt in (storage.read, storage.size, storage.list, storage.delete, storage.child):
        with pytest.raises(StorageError, match="leaves the storage root"):
            attempt(path)
    with pytest.raises(StorageError):
        storage.publish(path, b"")
    assert list(tmp_path.iterdir()) == []


def test_plain_paths_pass() -> None:
    assert checked_path("head_stats/unit-000001.parquet") == "head_stats/unit-000001.parquet"


class Overwriting(LocalStorage):
    """A store without create-if-absent, as some FUSE mounts and old object stores are."""

    def publish(self, path: str, data: bytes) -> bool:
        self.replace(path, data)
        return True


def test_the_probe_refuses_a_store_that_overwrites(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="creating a file that exists did not fail"):
        probe(Overwriting(tmp_path))
    probe(LocalStorage(tmp_path))
    assert LocalStorage(tmp_path).list("_tmp") == []


def test_an_output_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*file/run.*--out"):
        probe(LocalStorage(tmp_path / "file" / "run"))


@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.ENOSPC, "free space"), (errno.EROFS, "read-only"), (errno.EACCES, "--out"), (errno.EIO, "Check the path")],
)
def test_errors_of_the_system_say_what_to_do(code: int, advice: str) -> None:
    error = explain("write", "/data/run/x.parquet", OSError(code, os.strerror(code)))
    assert "/data/run/x.parquet" in str(error)
    assert advice in str(error)
    assert "\n" not in str(error)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"x\.json: not found"):
        LocalStorage(tmp_path).read("x.json")


def test_an_unknown_scheme_is_the_users_mistake() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        open_storage("nowhere://bucket/x").read("y")


@pytest.mark.parametrize("uri", ["runs", "s3://bucket/runs/", "file:///data/runs"])
def test_storages_travel_to_other_processes(uri: str) -> None:
    storage: Storage = open_storage(uri)
    assert pickle.loads(pickle.dumps(storage)).uri == storage.uri
    assert open_storage(storage.uri).uri == storage.uri
    assert storage.child("a").uri == f"{storage.uri}/a"
