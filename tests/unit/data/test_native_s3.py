"""The native format on an S3 emulator: same rows, digests without a download."""

from __future__ import annotations

import pytest

from rampipe.config import DataConfig
from rampipe.data import open_source
from rampipe.errors import DataError
from rampipe.tables.shards import write_shards
from rampipe.types import ContextPart, Sample
from tests.s3_server import s3_server

SAMPLES = [
    Sample(f"sample-{index}", "test", (ContextPart(kind="text", text="17"),), (), "key?", ("17",), None, ())
    for index in range(5)
]


@pytest.fixture(scope="module")
def s3():
    with s3_server() as files:
        yield files


def upload(s3, paths, prefix):
    for path in paths:
        s3.put_file(str(path), f"bucket/{prefix}/{path.name}")


def test_rows_are_those_of_the_folder(s3, tmp_path):
    upload(s3, write_shards(SAMPLES, tmp_path, split="val", rows_per_shard=2), "rows")
    local = open_source(DataConfig(path=str(tmp_path)))
    remote = open_source(DataConfig(path="s3://bucket/rows/", split="val"))
    assert [(shard.path, shard.num_rows, shard.num_bytes) for shard in remote.shards()] == [
        (shard.path, shard.num_rows, shard.num_bytes) for shard in local.shards()
    ]
    assert list(remote.read("val-00001.parquet", 0, 2)) == list(local.read("val-00001.parquet", 0, 2))


def test_digest_follows_the_content(s3, tmp_path):
    upload(s3, write_shards(SAMPLES[:2], tmp_path / "a", split="val"), "digest")
    source = open_source(DataConfig(path="s3://bucket/digest"))
    before = source.shards()[0].digest
    assert before.startswith("etag:")
    assert source.shards()[0].digest == before
    upload(s3, write_shards(SAMPLES[2:], tmp_path / "b", split="val"), "digest")
    s3.invalidate_cache()
    assert open_source(DataConfig(path="s3://bucket/digest")).shards()[0].digest != before


@pytest.mark.parametrize("path", ["s3://bucket/nothing", "s3://no-such-bucket/samples"])
def test_nothing_there_is_a_data_error(s3, path):
    with pytest.raises(DataError, match=f"data.path = '{path}'"):
        open_source(DataConfig(path=path)).shards()


def test_broken_shard_is_named(s3, tmp_path):
    paths = write_shards(SAMPLES, tmp_path, split="val")
    paths[0].write_bytes(paths[0].read_bytes()[:-9])
    upload(s3, paths, "broken")
    with pytest.raises(DataError, match=r"val-00000\.parquet: not a readable Parquet file"):
        open_source(DataConfig(path="s3://bucket/broken")).shards()


def test_unknown_protocol_is_a_data_error():
    with pytest.raises(DataError, match="Use a local folder or s3://"):
        open_source(DataConfig(path="nosuch://bucket/samples"))
