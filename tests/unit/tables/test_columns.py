"""Columns of a committed file: verified pages, named files."""

from __future__ import annotations

from pathlib import Path

import pytest

from rampipe.errors import DataError, StorageError
from rampipe.tables.columns import CommittedTable
from rampipe.tables.read import open_run
from rampipe.tables.schema import load_schema
from tests.unit.heads.planted import Study, planted_masses, write_run

STUDY = Study(planted_masses(8, {}, shape=(3, 4)))


def first_file(folder: Path) -> CommittedTable:
    return open_run(write_run(folder, STUDY).storage.uri).head_stats_files[0]


def test_columns_come_as_asked_with_text_as_dictionaries(tmp_path: Path) -> None:
    table = first_file(tmp_path).read(["head", "sample_id"])
    assert table.column_names == ["head", "sample_id"]
    assert str(table.schema.field("sample_id").type).startswith("dictionary<values=string")
    assert table.num_rows == 8 * 12


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    part = first_file(tmp_path)
    path = Path(part.name)
    data = bytearray(path.read_bytes())
    whole = part.read(["mass_evidence"])
    found = 0
    for place in range(4, len(data) - 3000, 97):
        damaged = data.copy()
        damaged[place] ^= 0x10
        path.unlink()
        path.write_bytes(damaged)
        try:
            assert part.read(["mass_evidence"]).equals(whole)  # in a column that was not asked for
        except (StorageError, DataError):
            found += 1
    assert found


def test_another_schema_is_refused(tmp_path: Path) -> None:
    part = first_file(tmp_path)
    with pytest.raises(DataError, match="does not fit schema"):
        CommittedTable(part.storage, part.path, load_schema("samples.v1")).read(["sample_id"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    part = first_file(tmp_path)
    Path(part.name).unlink()
    with pytest.raises(StorageError, match=r"unit-000000\.parquet: not found"):
        part.read(["head"])
