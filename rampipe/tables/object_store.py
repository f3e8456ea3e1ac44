"""A run below an object-store prefix: one conditional put per file, which the store makes atomic."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import pyarrow as pa

from rampipe.errors import ConfigError, StorageError
from rampipe.tables.storage import checked_path, explain


class ObjectStorage:
    """Files below a URL that fsspec knows. Credentials and endpoint come from the environment (AWS_ENDPOINT_URL ...).

    The connection is made on first use, so that an instance can be pickled to another process.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/")

    @property
    def uri(self) -> str:
        """The URL of the prefix."""
        return self._uri

    def publish(self, path: str, data: bytes) -> bool:
        """One put with If-None-Match; never a stream, which could leave a valid but shorter file behind."""
        try:
            with self._named("write", path) as key:
                self._filesystem.pipe_file(key, data, mode="create")
        except FileExistsError:
            return False
        return True

    def replace(self, path: str, data: bytes) -> None:
        """One put."""
        with self._named("write", path) as key:
            self._filesystem.pipe_file(key, data, mode="overwrite")

    def read(self, path: str) -> bytes:
        """The whole object."""
        with self._named("read", path) as key:
            return self._filesystem.cat_file(key)

    def open_file(self, path: str) -> pa.NativeFile:
        """Fetched in ranges, as they are read."""
        with self._named("read", path) as key:
            return pa.PythonFile(self._filesystem.open(key, "rb"), "r")

    def size(self, path: str) -> int | None:
        """Bytes of an object, None when it is missing."""
        with self._named("read", path) as key:
            self._filesystem.invalidate_cache()
            try:
                return self._filesystem.info(key)["size"]
            except FileNotFoundError:
                return None

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        """Whole objects, in the given order, fetched at once."""
        if not paths:
            return []
        keys = [f"{self._root}/{checked_path(path)}" for path in paths]
        with self._named("read", paths[0]):
            found = self._filesystem.cat(keys)
        return [found[key] for key in keys] if isinstance(found, dict) else [found]

    def sizes(self, prefix: str) -> dict[str, int]:
        """Bytes by path of all objects below a prefix, sorted."""
        with self._named("list", prefix) as key:
            self._filesystem.invalidate_cache()
            found = self._filesystem.find(key, detail=True)
        start = len(self._root) + 1
        return {name[start:]: found[name]["size"] for name in sorted(found)}

    def list(self, prefix: str) -> list[str]:
        """The paths of `sizes`."""
        return list(self.sizes(prefix))

    def changed_s(self, prefix: str) -> dict[str, float]:
        """When each object below a prefix was written, by path; one whose store does not tell is left out."""
        with self._named("list", prefix) as key:
            self._filesystem.invalidate_cache()
            found = self._filesystem.find(key, detail=True)
        start = len(self._root) + 1
        times = {name[start:]: found[name].get("LastModified") for name in sorted(found)}
        return {name: time.timestamp() for name, time in times.items() if time is not None}

    def delete(self, path: str) -> None:
        """Remove an object; a missing one is fine."""
        with self._named("delete", path) as key:
            try:
                self._filesystem.rm_file(key)
            except FileNotFoundError:
                return

    def child(self, path: str) -> ObjectStorage:
        """The storage of a prefix below this one."""
        return ObjectStorage(f"{self._uri}/{checked_path(path)}")

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        import fsspec

        try:
            filesystem, root = fsspec.url_to_fs(self._uri)
        except ImportError as error:
            raise ConfigError(f"{self._uri}: {error}. For S3: pip install 'rampipe[s3]'.") from None
        except ValueError as error:
            raise ConfigError(f"{self._uri}: {error}. Use a local folder or s3://bucket/prefix.") from None
        return filesystem, str(root).rstrip("/")

    @property
    def _filesystem(self) -> Any:
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1]

    @contextmanager
    def _named(self, action: str, path: str) -> Generator[str]:
        """The store's key of a path; errors of the store name the URL."""
        place = f"{self._uri}/{checked_path(path)}"
        try:
            yield f"{self._root}/{path}"
        except FileExistsError:
            raise
        except FileNotFoundError:
            raise StorageError(f"{place}: not found.") from None
        except OSError as error:
            raise explain(action, place, error) from None

    def __getstate__(self) -> dict[str, str]:
        return {"_uri": self._uri}
