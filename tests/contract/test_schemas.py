"""Every schema file is whole, and every file of a run is what its schema says."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rampipe.errors import DataError
from rampipe.tables.commit import UNIT_SCHEMAS
from rampipe.tables.schema import latest_schema, list_schemas, load_schema, parse_type, schema_folder
from rampipe.tables.unit_kind import EARLIER
from rampipe.types import QUERY_GROUPS, REGIONS
from tests.unit.tables.synthetic import capture


@pytest.mark.parametrize("schema_id", list_schemas())
def test_a_schema_is_whole(schema_id: str) -> None:
    schema = load_schema(schema_id)
    assert schema.id == schema_id
    assert schema.meaning.endswith(".")
    names = [column.name for column in schema.columns]
    assert len({*names}) == len(names)
    assert schema.key
    for name in schema.key:
        assert not schema.columns[names.index(name)].nullable, f"key {name} may be null"
    for column in schema.columns:
        assert column.meaning.strip(), column.name
        assert column.range is None or column.range[0] < column.range[1], column.name
    raw = json.loads((schema_folder() / f"{schema_id}.json").read_text(encoding="utf-8"))
    assert {*raw} == {"name", "version", "meaning", "key", "columns"}
    for column in raw["columns"]:
        assert (
            {"name", "type", "nullable", "meaning"}
            <= {*column}
            <= {"name", "type", "nullable", "meaning", "unit", "range"}
        )


@pytest.mark.parametrize("schema_id", list_schemas())
def test_a_schema_takes_its_own_and_refuses_every_change(schema_id: str) -> None:
    schema = load_schema(schema_id)
    arrow = schema.arrow_schema
    schema.check(arrow, source="x")
    for index, field in enumerate(arrow):
        for wrong in (arrow.remove(index), arrow.set(index, pa.field(field.name, pa.date32()))):
            with pytest.raises(DataError, match=f"x: does not fit schema {schema_id}.*{field.name}"):
                schema.check(wrong, source="x")
    with pytest.raises(DataError, match="unknown column 'extra'"):
        schema.check(arrow.append(pa.field("extra", pa.int8())), source="x")


def test_unknown_types_are_refused() -> None:
    assert parse_type("list<struct<a: int32, b: list<string>>>").value_type.num_fields == 2
    with pytest.raises(ValueError, match="flaot"):
        parse_type("flaot")


def test_the_latest_version_is_found() -> None:
    assert latest_schema("head_stats").version >= 1
    with pytest.raises(DataError, match="table 'head_stat': no schema"):
        latest_schema("head_stat")


@pytest.mark.parametrize(
    ("earlier", "later"), [(earlier, later) for later, versions in EARLIER.items() for earlier in versions]
)
def test_a_version_that_is_still_read_only_lacks_columns(earlier: str, later: str) -> None:
    old, new = load_schema(earlier), load_schema(later)
    assert (old.name, old.key) == (new.name, new.key)
    assert old.version < new.version == latest_schema(new.name).version
    names = {column.name for column in old.columns}
    assert old.columns == tuple(column for column in new.columns if column.name in names)
    assert len(names) < len(new.columns)


def test_every_region_has_its_column() -> None:
    head_stats = latest_schema("head_stats").arrow_schema.names
    others = ("mass_evidence_null", "mass_evidence_top")
    masses = [name for name in head_stats if name.startswith("mass_") and name not in others]
    assert masses == [f"mass_{region}" for region in REGIONS]
    counts = {f"num_{region}" for region in REGIONS} - {"num_learned_sink"}
    assert counts <= {*latest_schema("samples").arrow_schema.names}


def test_every_written_file_is_what_its_schema_says(tmp_path: Path) -> None:
    run = capture(str(tmp_path))
    paths = {path: UNIT_SCHEMAS[table] for table in UNIT_SCHEMAS for path in run.storage.list(table)}
    assert len(paths) == 9
    for path, schema_id in [*paths.items(), ("plan.parquet", "plan.v1")]:
        schema = load_schema(schema_id)
        found = pq.read_schema(pa.BufferReader(run.storage.read(path)))
        assert found.remove_metadata() == schema.arrow_schema
        assert found.metadata[b"rampipe.schema"] == schema_id.encode()
        assert found.metadata[b"rampipe.fingerprint"] == run.fingerprint.encode()
        table = pq.read_table(pa.BufferReader(run.storage.read(path)))
        for column in schema.columns:
            values = [value for value in table.column(column.name).to_pylist() if value is not None]
            assert column.nullable or len(values) == table.num_rows
            if column.range:
                low, high = column.range
                assert all(low <= value <= high for value in values)
        if "query" in table.column_names:
            assert {*table.column("query").to_pylist()} <= {*QUERY_GROUPS}
