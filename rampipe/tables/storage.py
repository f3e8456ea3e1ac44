"""Where a run lives: a local folder or an object-store prefix, written create-if-absent.

A published file is whole and never changes; the first writer wins. Only derived files (rankings, the dataset card) are
ever replaced, and only repair deletes.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import pyarrow as pa

from rampipe.errors import ConfigError, StorageError, redact

TMP_FOLDER = "_tmp"


@runtime_checkable
class Storage(Protocol):
    """Files below one root. Paths are relative, with `/`; a path that would leave the root is refused."""

    @property
    def uri(self) -> str:
        """Where the root is: opens the same storage again, also in another process."""
        ...

    def publish(self, path: str, data: bytes) -> bool:
        """Create a file at once and whole. False when it exists already, which is then untouched."""
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Create a file or swap its content at once. For derived files only."""
        ...

    def read(self, path: str) -> bytes:
        """The whole file. Raises StorageError when it is missing."""
        ...

    def open_file(self, path: str) -> pa.NativeFile:
        """A file to read parts of. Raises StorageError when it is missing."""
        ...

    def size(self, path: str) -> int | None:
        """Bytes of a file, None when it is missing."""
        ...

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        """Whole files, in the given order; an object store fetches them at once."""
        ...

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes by path of all files below a folder, at any depth, sorted. Empty when there is no such folder."""
        ...

    def list(self, prefix: str) -> list[str]:
        """The paths of `sizes`."""
        ...

    def changed_s(self, prefix: str) -> dict[str, float]:
        """When each file below a folder was written, in seconds since 1970, by path."""
        ...

    def delete(self, path: str) -> None:
        """Remove a file; a missing one is fine."""
        ...

    def child(self, path: str) -> Storage:
        """The storage of a folder below this one."""
        ...


def open_storage(uri: str) -> Storage:
    """A local path or `file://` URL, or a URL that fsspec knows, e.g. `s3://bucket/runs`. Touches nothing yet."""
    refuse_credentials(uri)
    scheme = re.match(r"([a-z][a-z0-9+.-]+)://", uri)
    if scheme is None or scheme[1] == "file":
        from rampipe.tables.local import LocalStorage

        return LocalStorage(uri.removeprefix("file://"))
    from rampipe.tables.object_store import ObjectStorage

    return ObjectStorage(uri)


def refuse_credentials(uri: str) -> None:
    """Raise ConfigError for an address that holds a user or a password: addresses are printed and shown."""
    if "@" in uri.partition("://")[2].partition("/")[0]:
        raise ConfigError(
            f"{redact(uri)}: holds a user or a password. Give the address alone, and credentials by the environment or "
            "the store's own files."
        )


def probe(storage: Storage) -> None:
    """Prove that the output can be written and that create-if-absent holds: create a file twice, the second must fail.

    Raises StorageError naming the place, before any device is used.
    """
    path = f"{TMP_FOLDER}/probe-{uuid.uuid4().hex}"
    first = storage.publish(path, b"1")
    try:
        second, kept = storage.publish(path, b"2"), storage.read(path)
    finally:
        storage.delete(path)
    if not first or second or kept != b"1":
        raise StorageError(
            f"output {storage.uri}: creating a file that exists did not fail, so two writers could overwrite each "
            f"other. Use a local disk, NFS, or an object store with conditional writes (S3 If-None-Match)."
        )


def checked_path(path: str) -> str:
    """A relative path without steps out of the root. Raises StorageError: names from data never become paths."""
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or any(sign in path for sign in "\\\0\n:"):
        raise StorageError(f"path {path[:200]!r}: leaves the storage root or is not a plain relative path.")
    return path


def explain(action: str, place: str, error: OSError) -> StorageError:
    """An operating-system error as one sentence that says what to do."""
    import errno

    advice = {
        errno.ENOSPC: "The disk is full: free space, then run the same command again; it goes on where it stopped.",
        errno.EDQUOT: "The quota is used up: free space, then run the same command again.",
        errno.EROFS: "The file system is read-only: pass another folder with --out.",
        errno.EACCES: "Permission denied: pass a folder that you may write with --out.",
        errno.EPERM: "Not permitted here (hard links or writing): pass another folder with --out.",
        errno.EEXIST: "A part of the path is a file: pass another folder with --out.",
        errno.ENOTDIR: "A part of the path is a file: pass another folder with --out.",
    }.get(error.errno or 0, "Check the path and the credentials, then run the same command again.")
    reason = error.strerror or str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return StorageError(f"cannot {action} {place}: {reason}. {advice}")
