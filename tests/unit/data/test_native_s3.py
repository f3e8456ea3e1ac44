"""The native format on an S3 emulator: same rows, digests without a download."""

from __future__ import annotations

import os

import pytest

from rampipe.config import DataConfig
from rampipe.data import open_source
from rampipe.errors import DataError
from rampipe.tables.shards import write_shards
from rampipe.types import ContextPart, Sample

SAMPLES = [
    Sample(f"sample-{index}", "test", (ContextPart(kind="text", text="17"),), (), "key?", ("17",), None, ())
    for index in range(5)
]


@pytest.fixture(scope="module")
def s3():
    server_module = pytest.importorskip("moto.server", reason="moto is not installed: no S3 tests")
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: no S3 tests")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            patch.delenv(name)
        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem()
        files.mkdir("bucket")
        yield files
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


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
