"""A real S3 server on loopback, in this process, with one empty bucket."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def s3_server() -> Generator[Any]:
    """Gives an `s3fs.S3FileSystem`; the environment points all S3 clients at the server. Skips without moto or s3fs."""
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
        # All servers of a process share one state: a bucket may be there from another module.
        if files.exists("bucket"):
            files.rm("bucket", recursive=True)
        files.mkdir("bucket")
        yield files
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()
