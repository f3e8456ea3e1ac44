"""Versioned table schemas, read from the JSON files of `schemas/`.

A released file never changes: another meaning, type or key is another version. A table that does not fit its schema
raises; there is no silent cast.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import pyarrow as pa

from rampipe.errors import DataError

_TYPES: Mapping[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: name, Arrow type, nullability and what it means."""

    name: str
    type: pa.DataType
    nullable: bool
    meaning: str
    unit: str | None
    range: tuple[float, float] | None


@dataclass(frozen=True)
class TableSchema:
    """One version of one table. `key` are the columns that identify a row."""

    name: str
    version: int
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    @property
    def id(self) -> str:
        """Name and version, as files are named: `head_stats.v1`."""
        return f"{self.name}.v{self.version}"

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema, in column order, with nullability."""
        return pa.schema([pa.field(column.name, column.type, nullable=column.nullable) for column in self.columns])

    @cached_property
    def texts(self) -> list[str]:
        """Names of the columns of text."""
        return [column.name for column in self.columns if column.type == pa.string()]

    def check(self, found: pa.Schema, *, source: str) -> None:
        """Compare a file's schema with this one: same columns and types; order and extra metadata do not matter.

        Raises DataError naming `source` and every missing, unknown or mistyped column. List element names and the
        nullability that writers leave out are not compared: Parquet writers disagree on both.
        """
        wanted = {column.name: column.type for column in self.columns}
        problems = [f"no column {name!r}" for name in wanted if name not in found.names]
        problems += [f"unknown column {name!r}" for name in found.names if name not in wanted]
        problems += [
            f"column {name!r} is {found.field(name).type}, not {kind}"
            for name, kind in wanted.items()
            if name in found.names and _shape(found.field(name).type) != _shape(kind)
        ]
        if problems:
            raise DataError(
                f"{source}: does not fit schema {self.id}: {'; '.join(problems)}. See schemas/{self.id}.json."
            )


def _shape(kind: pa.DataType) -> Any:
    """A type without element names: large and normal variants of strings, binaries and lists are one."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return ("list", _shape(kind.value_type))
    if pa.types.is_struct(kind):
        return ("struct", frozenset((field.name, _shape(field.type)) for field in kind))
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    return kind


def parse_type(text: str) -> pa.DataType:
    """Arrow type of a schema file's text: a scalar name, `list<T>` or `struct<name: T, ...>`."""
    if text in _TYPES:
        return _TYPES[text]
    if text.startswith("list<") and text.endswith(">"):
        return pa.list_(parse_type(text[5:-1]))
    if text.startswith("struct<") and text.endswith(">"):
        fields = [part.split(":", 1) for part in _split_fields(text[7:-1])]
        return pa.struct([(name.strip(), parse_type(kind.strip())) for name, kind in fields])
    raise ValueError(f"schema type {text!r} is none of {sorted(_TYPES)}, list<...> or struct<...>")


def _split_fields(text: str) -> list[str]:
    """Split at commas that are outside angle brackets."""
    parts, depth, start = list[str](), 0, 0
    for index, character in enumerate(text):
        depth += {"<": 1, ">": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def schema_folder() -> Traversable:
    """`schemas/` beside the packages in a checkout, inside the package in an installed wheel."""
    checkout = Path(__file__).resolve().parents[2] / "schemas"
    return checkout if checkout.is_dir() else resources.files("rampipe") / "schemas"


@cache
def load_schema(schema_id: str) -> TableSchema:
    """Load `schemas/<schema_id>.json`, e.g. `head_stats.v1`."""
    raw = json.loads((schema_folder() / f"{schema_id}.json").read_text(encoding="utf-8"))
    columns = tuple(
        Column(
            name=column["name"],
            type=parse_type(column["type"]),
            nullable=column["nullable"],
            meaning=column["meaning"],
            unit=column.get("unit"),
            range=(float(column["range"][0]), float(column["range"][1])) if "range" in column else None,
        )
        for column in raw["columns"]
    )
    return TableSchema(raw["name"], raw["version"], raw["meaning"], tuple(raw["key"]), columns)


def list_schemas() -> tuple[str, ...]:
    """Ids of all schema files, sorted."""
    return tuple(sorted(file.name[:-5] for file in schema_folder().iterdir() if file.name.endswith(".json")))


def latest_schema(name: str) -> TableSchema:
    """The highest version of a table's schema. Raises DataError when there is none."""
    versions = [int(found.rpartition(".v")[2]) for found in list_schemas() if found.rpartition(".v")[0] == name]
    if not versions:
        raise DataError(f"table {name!r}: no schema. Add schemas/{name}.v1.json; known: {', '.join(list_schemas())}.")
    return load_schema(f"{name}.v{max(versions)}")
