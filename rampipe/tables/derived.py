"""Tables of later stages: `<run>/<stage>/<table>.parquet` and `<stage>/_SUCCESS.json`, replaced when inputs change.

Names stay the same, so that `ranking/*.parquet` is always the current ranking and nothing else. To keep a half-replaced
stage from passing as whole, `_SUCCESS.json` goes first and comes back last, with the hash of every file: a reader that
starts from it either finds the files that it names or an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from rampipe.errors import StorageError
from rampipe.tables.balance import balance
from rampipe.tables.card import write_card
from rampipe.tables.fingerprint import fingerprint
from rampipe.tables.parquet import parse, to_bytes
from rampipe.tables.run import RUN_PATH, open_run_dir
from rampipe.tables.schema import latest_schema
from rampipe.tables.storage import Storage, checked_path


def publish_stage(storage: Storage, stage: str, tables: Mapping[str, pa.Table], made_from: Mapping[str, Any]) -> None:
    """Write all tables of a stage, replacing an earlier version; files that are no longer named are removed.
    The dataset card of the run then names them.

    tables: by name, each with a schema file `<name>.v<n>.json`, whose latest version it must fit. made_from: JSON
    values that identify the inputs, e.g. the `commits_sha256` of the run and the configuration of the stage.
    Raises DataError when a table does not fit its schema; nothing is written then.
    """
    source = fingerprint(made_from)
    files = {f"{stage}/{name}.parquet": _serialise(name, table, source) for name, table in tables.items()}
    success = _success_path(stage)
    storage.delete(success)
    for path in storage.list(stage):
        is_table = path.endswith(".parquet") and "/" not in path.removeprefix(f"{stage}/")
        if is_table and path not in files:
            storage.delete(path)
    for path, data in files.items():
        storage.replace(path, data)
    content = {
        "made_from": dict(made_from),
        "made_from_sha256": source,
        "files": [{"path": path, "bytes": len(data), "sha256": _digest(data)} for path, data in files.items()],
    }
    storage.replace(success, json.dumps(content, indent=1, sort_keys=True).encode() + b"\n")
    if storage.size(RUN_PATH) is not None:
        run = open_run_dir(storage)
        write_card(run, balance(run))


def stage_is_current(storage: Storage, stage: str, made_from: Mapping[str, Any]) -> bool:
    """Whether a stage exists, was made from exactly these inputs, and its files are intact."""
    try:
        content = _read_success(storage, stage)
        if content is None or content["made_from_sha256"] != fingerprint(made_from):
            return False
        return all(
            storage.size(file["path"]) == file["bytes"] and _digest(storage.read(file["path"])) == file["sha256"]
            for file in content["files"]
        )
    except StorageError:
        return False


def stage_files(storage: Storage, stage: str) -> dict[str, str]:
    """Paths of a stage's tables by name; empty when the stage does not exist.

    Raises StorageError when a file does not have its recorded size.
    """
    content = _read_success(storage, stage)
    files = content["files"] if content else []
    for file in files:
        size = storage.size(file["path"])
        if size != file["bytes"]:
            raise StorageError(
                f"{storage.uri}/{file['path']}: {size} bytes, recorded were {file['bytes']}. Run the stage again."
            )
    return {file["path"].rpartition("/")[2].removesuffix(".parquet"): file["path"] for file in files}


def read_stage(storage: Storage, stage: str) -> dict[str, pa.Table]:
    """All tables of a stage by name, with their page checksums verified; empty when the stage does not exist."""
    return {
        name: parse(storage.read(path), latest_schema(name), source=f"{storage.uri}/{path}")
        for name, path in stage_files(storage, stage).items()
    }


def _success_path(stage: str) -> str:
    return checked_path(f"{stage}/_SUCCESS.json")


def _read_success(storage: Storage, stage: str) -> dict[str, Any] | None:
    path = _success_path(stage)
    if storage.size(path) is None:
        return None
    try:
        content = json.loads(storage.read(path))
        return {"made_from_sha256": content["made_from_sha256"], "files": list(content["files"])}
    except (ValueError, KeyError, TypeError):
        raise StorageError(f"{storage.uri}/{path}: damaged. Run the stage again.") from None


def _serialise(name: str, table: pa.Table, source: str) -> bytes:
    schema = latest_schema(name)
    schema.check(table.schema, source=f"table {name}")
    ordered = table.select(schema.arrow_schema.names).cast(schema.arrow_schema)
    data = to_bytes(ordered, metadata={"made_from": source, "schema": schema.id, "rows": str(table.num_rows)})
    parse(data, schema, source=f"table {name} in memory")
    return data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
