"""A file is hashed once while it stays the same, and again as soon as it does not."""

from __future__ import annotations

import hashlib

import pytest

from rampipe.data import digests
from rampipe.data.digests import file_sha256


def test_once_while_it_stays_and_again_when_it_changes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    before = digests._sha256.cache_info()
    assert [file_sha256(path) for _ in range(3)] == [hashlib.sha256(b"one").digest()] * 3
    after = digests._sha256.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 2)
    other = tmp_path / "b"
    other.write_bytes(b"two")
    other.rename(path)
    assert file_sha256(path) == hashlib.sha256(b"two").digest()


def test_a_file_that_is_gone_is_an_error_though_it_was_known(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    file_sha256(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        file_sha256(path)
