"""SHA-256 of files, each read once a process: several stages of a job ask for the digest of one dataset."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


def file_sha256(path: Path) -> bytes:
    """Digest of a file as it is now; read again only when its size, time or place on the disk has changed.

    Raises OSError when it cannot be read.
    """
    status = path.stat()
    return _sha256(str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=1 << 20)
def _sha256(path: str, *version: int) -> bytes:
    """version: what tells two contents of one path apart."""
    del version
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
