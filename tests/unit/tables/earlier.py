"""A run as an earlier version left it: the same rows, in tables that lack columns which were added later."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from rampipe.tables.fingerprint import fingerprint
from rampipe.tables.finish import SUCCESS_PATH, finish_run
from rampipe.tables.parquet import read_metadata, to_bytes
from rampipe.tables.record import CommittedFile, commit_path, read_commits
from rampipe.tables.run import PLAN_PATH, RUN_PATH, Run, open_run_dir
from rampipe.tables.schema import load_schema
from rampipe.tables.unit_kind import EARLIER


def into_earlier(run: Run) -> Run:
    """Rewrites a finished run in place, with the first version of each of its tables."""
    schemas = {name: EARLIER.get(current, (current,))[0] for name, current in run.schemas.items()}
    storage, content = run.storage, json.loads(run.storage.read(RUN_PATH))
    content["inputs"]["run"]["schemas"] = schemas
    content["fingerprint"] = fingerprint(content["inputs"])

    def rewritten(path: str, schema_id: str) -> bytes:
        data = storage.read(path)
        names = load_schema(schema_id).arrow_schema.names
        metadata = {**read_metadata(data), "fingerprint": content["fingerprint"], "schema": schema_id}
        storage.replace(path, to_bytes(pq.read_table(pa.BufferReader(data)).select(names), metadata=metadata))
        return storage.read(path)

    def described(file: CommittedFile) -> CommittedFile:
        data = rewritten(file.path, schemas[file.path.partition("/")[0]])
        return replace(file, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    for unit in run.units:
        record = read_commits(storage)[unit.unit_id]
        files = tuple(described(file) for file in record.files)
        storage.replace(commit_path(unit), replace(record, fingerprint=content["fingerprint"], files=files).to_json())
    rewritten(PLAN_PATH, "plan.v1")
    storage.replace(RUN_PATH, json.dumps(content).encode())
    storage.delete(SUCCESS_PATH)
    finish_run(found := open_run_dir(storage))
    return found
