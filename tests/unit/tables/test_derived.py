from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from rampipe.errors import DataError, StorageError
from rampipe.tables.derived import publish_stage, read_stage, stage_files, stage_is_current
from rampipe.tables.local import LocalStorage
from rampipe.tables.rows import errors_table, samples_table
from tests.unit.tables.synthetic import failure, result

TABLES = {"samples": samples_table([result(1)]), "errors": errors_table([failure(2)])}
INPUTS = {"commits_sha256": "a" * 64, "rank": {"metric": "ram"}}


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    made = LocalStorage(tmp_path)
    publish_stage(made, "ranking", TABLES, INPUTS)
    return made


def test_a_stage_is_current_for_its_inputs_only(storage: LocalStorage) -> None:
    assert stage_is_current(storage, "ranking", INPUTS)
    assert not stage_is_current(storage, "ranking", {**INPUTS, "rank": {"metric": "hit"}})
    assert not stage_is_current(storage, "report", INPUTS)
    assert storage.list("ranking") == ["ranking/_SUCCESS.json", "ranking/errors.parquet", "ranking/samples.parquet"]


def test_a_stage_is_replaced_as_a_whole(storage: LocalStorage) -> None:
    publish_stage(storage, "ranking", {"samples": samples_table([result(5)])}, {"other": 1})
    assert storage.list("ranking") == ["ranking/_SUCCESS.json", "ranking/samples.parquet"]
    assert read_stage(storage, "ranking")["samples"].column("num_tokens").to_pylist() == [105]
    assert not stage_is_current(storage, "ranking", INPUTS)


def test_what_a_death_leaves_does_not_pass_as_whole(storage: LocalStorage) -> None:
    storage.delete("ranking/_SUCCESS.json")
    assert not stage_is_current(storage, "ranking", INPUTS)
    assert stage_files(storage, "ranking") == {}


def test_a_changed_file_is_found(storage: LocalStorage) -> None:
    data = storage.read("ranking/errors.parquet")
    storage.replace("ranking/errors.parquet", data[:600] + b"!" + data[601:])
    assert not stage_is_current(storage, "ranking", INPUTS)
    storage.replace("ranking/errors.parquet", data[:-1])
    with pytest.raises(StorageError, match=r"ranking/errors\.parquet"):
        stage_files(storage, "ranking")
    storage.replace("ranking/_SUCCESS.json", b"{")
    assert not stage_is_current(storage, "ranking", INPUTS)


def test_a_table_without_or_against_its_schema_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    with pytest.raises(DataError, match="table 'nonsense': no schema"):
        publish_stage(storage, "ranking", {"errors": TABLES["errors"], "nonsense": pa.table({"a": [1]})}, INPUTS)
    with pytest.raises(DataError, match="no column 'code'"):
        publish_stage(storage, "ranking", {"errors": TABLES["errors"].drop_columns(["code"])}, INPUTS)
    assert storage.list("ranking") == []
