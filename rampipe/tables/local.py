"""A run in a local or network folder: temporary file, fsync, hard link. POSIX only needs link() to be atomic."""

from __future__ import annotations

import os
import uuid
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from rampipe.errors import StorageError
from rampipe.tables.failpoint import failpoint
from rampipe.tables.storage import TMP_FOLDER, checked_path, explain


class LocalStorage:
    """Files below a folder. See `Storage` for the methods."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).absolute()

    @property
    def uri(self) -> str:
        """The absolute path of the folder."""
        return str(self.root)

    def publish(self, path: str, data: bytes) -> bool:
        """Write below `_tmp/`, sync, and link to the final name: link() fails when the name exists."""
        target = self.root / checked_path(path)
        with self._temporary("write", target, data) as temporary:
            failpoint("in_tmp")
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            _sync_folder(target.parent)
        return True

    def replace(self, path: str, data: bytes) -> None:
        """Write below `_tmp/`, sync, and rename over the final name."""
        target = self.root / checked_path(path)
        with self._temporary("write", target, data) as temporary:
            temporary.replace(target)
            _sync_folder(target.parent)

    def read(self, path: str) -> bytes:
        """The whole file."""
        target = self.root / checked_path(path)
        try:
            return target.read_bytes()
        except FileNotFoundError:
            raise StorageError(f"{target}: not found.") from None
        except OSError as error:
            raise explain("read", str(target), error) from None

    def open_file(self, path: str) -> pa.NativeFile:
        """Read, not mapped: threads that map and unmap files wait for each other."""
        target = self.root / checked_path(path)
        try:
            return pa.OSFile(str(target))
        except FileNotFoundError:
            raise StorageError(f"{target}: not found.") from None
        except OSError as error:
            raise explain("read", str(target), error) from None

    def size(self, path: str) -> int | None:
        """Bytes of a file, None when it is missing."""
        try:
            return (self.root / checked_path(path)).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise explain("read", str(self.root / path), error) from None

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        """Whole files, in the given order."""
        return [self.read(path) for path in paths]

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes by path of all files below a folder, sorted."""
        folder = self.root / checked_path(prefix)
        found: dict[str, int] = {}
        for file in sorted(folder.rglob("*")):
            path = file.relative_to(self.root).as_posix()
            size = None if file.is_dir() else self.size(path)
            if size is not None:  # another process may have just removed its temporary file
                found[path] = size
        return found

    def list(self, prefix: str) -> list[str]:
        """The paths of `sizes`."""
        return list(self.sizes(prefix))

    def changed_s(self, prefix: str) -> dict[str, float]:
        """When each file below a folder was written, by path."""
        folder = self.root / checked_path(prefix)
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        return {file.relative_to(self.root).as_posix(): file.stat().st_mtime for file in files}

    def delete(self, path: str) -> None:
        """Remove a file; a missing one is fine."""
        target = self.root / checked_path(path)
        try:
            target.unlink(missing_ok=True)
        except OSError as error:
            raise explain("delete", str(target), error) from None

    def child(self, path: str) -> LocalStorage:
        """The storage of a folder below this one."""
        return LocalStorage(self.root / checked_path(path))

    @contextmanager
    def _temporary(self, action: str, target: Path, data: bytes) -> Generator[Path]:
        """A synced file below `_tmp/` that is gone afterwards. `_tmp/` shares the file system with its root."""
        temporary = self.root / TMP_FOLDER / f"{target.name}.{uuid.uuid4().hex}.tmp"
        try:
            _make_folder(temporary.parent)
            _make_folder(target.parent)
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise explain(action, str(target), error) from None


def _make_folder(folder: Path) -> None:
    """Create a folder and its parents, and make their names durable."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
