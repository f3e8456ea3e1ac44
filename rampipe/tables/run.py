"""A run: its identity, its plan, and what its folder says about both. `run.json` and `plan.parquet` are write-once."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pyarrow as pa

from rampipe.errors import ConfigError, StorageError, redact
from rampipe.tables.fingerprint import STATISTICS_VERSION, canonical_json, differing_keys, fingerprint
from rampipe.tables.parquet import parse, read_metadata, to_bytes
from rampipe.tables.schema import load_schema
from rampipe.tables.slug import slug
from rampipe.tables.stopped import STOPPED_PATH, Stopped, read_stopped
from rampipe.tables.storage import Storage, open_storage, probe
from rampipe.tables.unit_kind import EARLIER, UnitKind, kind_of, reads
from rampipe.types import QueryGroup, Unit

RUN_PATH = "run.json"
PLAN_PATH = "plan.parquet"
_LIBRARIES = ("rampipe", "numpy", "pyarrow", "torch", "transformers", "ray", "polars")


@dataclass(frozen=True)
class RunSpec:
    """Everything that identifies a run. `inputs`: nested JSON values that change its numbers (weights, tokenizer,
    template, dtype, kernel, dataset files, unit size, batch rule); never paths of this machine or counts of actors.
    `num_heads`: (layer, head) pairs that every sample gives for each query group. `num_arms`: of an ablation only,
    whose samples have this many rows, and neither queries nor heads. `num_repeats`: the same of a run of timings, whose
    units are arms and whose samples are lengths of the context.
    """

    model_slug: str
    dataset_slug: str
    inputs: Mapping[str, Any]
    units: tuple[Unit, ...]
    queries: tuple[QueryGroup, ...]
    num_heads: int
    num_arms: int | None = None
    num_repeats: int | None = None

    @cached_property
    def all_inputs(self) -> dict[str, Any]:
        """The inputs with what every run adds: plan, schemas, queries, number of heads, version of the statistics;
        without what looks like a secret, as they are written to `run.json`."""
        plan = [[unit.unit_id, unit.shard, unit.row_start, unit.row_stop] for unit in self.units]
        added = {
            "model": slug(self.model_slug),
            "dataset": slug(self.dataset_slug),
            "statistics_version": STATISTICS_VERSION,
            "schemas": dict(kind_of(num_arms=self.num_arms, num_repeats=self.num_repeats).schemas),
            "queries": list(self.queries),
            "num_heads": self.num_heads,
            "num_units": len(self.units),
            "num_samples": sum(unit.num_samples for unit in self.units),
            "plan_sha256": fingerprint({"plan": plan}),
            **({} if self.num_arms is None else {"num_arms": self.num_arms}),
            **({} if self.num_repeats is None else {"num_repeats": self.num_repeats}),
        }
        return json.loads(redact(canonical_json({"run": added, **self.inputs}).decode()))

    @cached_property
    def fingerprint(self) -> str:
        """64 hex digits over all inputs."""
        return fingerprint(self.all_inputs)

    @property
    def run_id(self) -> str:
        """`<model>-<dataset>-<first 12 digits of the fingerprint>`."""
        return f"{slug(self.model_slug)}-{slug(self.dataset_slug)}-{self.fingerprint[:12]}"


@dataclass(frozen=True, slots=True)
class Run:
    """An existing run folder: what `run.json`, `plan.parquet` and, where there is one, `stopped.json` say.

    units: of a run that was stopped, those that count. schemas: of the tables of a unit, which may be earlier versions
    of those that are written now.
    """

    storage: Storage
    run_id: str
    fingerprint: str
    inputs: Mapping[str, Any]
    units: tuple[Unit, ...]
    queries: tuple[QueryGroup, ...]
    num_heads: int
    versions: Mapping[str, str]
    created: str
    schemas: Mapping[str, str]
    num_arms: int | None = None
    num_repeats: int | None = None
    stopped: Stopped | None = None

    @property
    def kind(self) -> UnitKind[Any]:
        """What its units give."""
        return kind_of(num_arms=self.num_arms, num_repeats=self.num_repeats)

    def columns_of(self, table: str) -> tuple[str, ...]:
        """Names of the columns that a table of a unit has in this run."""
        return tuple(column.name for column in load_schema(self.schemas[table]).columns)

    @property
    def rows_per_sample(self) -> int:
        """Of the table that is counted."""
        if self.num_repeats is not None:
            return self.num_repeats
        return len(self.queries) * self.num_heads if self.num_arms is None else self.num_arms

    @property
    def rows_in_words(self) -> str:
        """What the rows of a sample are, e.g. `5 arms`."""
        if self.num_repeats is not None:
            return f"{self.num_repeats} repetitions"
        each = f"{len(self.queries)} query groups × {self.num_heads} heads"
        return each if self.num_arms is None else f"{self.num_arms} arms"

    @property
    def num_samples(self) -> int:
        """Planned samples."""
        return sum(unit.num_samples for unit in self.units)


def create_run(out: Storage | str, spec: RunSpec, *, run_id: str | None = None) -> Run:
    """Create the folder of a run below `out`, or open it when it exists with the same fingerprint.

    Raises StorageError when `out` cannot be written, ConfigError listing the differing keys with both values when the
    folder holds a run with another fingerprint.
    """
    parent = open_storage(out) if isinstance(out, str) else out
    if run_id is not None and slug(run_id) != run_id:
        raise ConfigError(f"run id {run_id!r}: use only a-z, 0-9, '.', '_' and '-', at most 64, e.g. {slug(run_id)!r}")
    storage = parent.child(run_id or spec.run_id)
    if storage.size(RUN_PATH) is None:
        probe(storage)
        storage.publish(PLAN_PATH, _plan_bytes(spec))
        description = {
            "run_id": run_id or spec.run_id,
            "fingerprint": spec.fingerprint,
            "inputs": spec.all_inputs,
            "versions": library_versions(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        storage.publish(RUN_PATH, json.dumps(description, indent=2, sort_keys=True).encode() + b"\n")
    run = open_run_dir(storage)
    refuse_other_inputs(run, spec.all_inputs)
    return run


def refuse_other_inputs(run: Run, inputs: Mapping[str, Any]) -> None:
    """Raise ConfigError naming every key whose value differs from the run's, with both values."""
    differing = differing_keys(run.inputs, inputs)
    if not differing:
        return
    shown = "; ".join(f"{key}: run has {old!r}, now {new!r}" for key, (old, new) in list(differing.items())[:20])
    raise ConfigError(
        f"run {run.storage.uri}: has another fingerprint ({run.fingerprint[:12]}): {shown}. "
        f"Use the same settings to resume, or another --out or run id for a new run."
    )


def open_run_dir(place: Storage | str) -> Run:
    """Read a run folder. Raises StorageError when it is none, or its plan does not belong to it."""
    storage = open_storage(place) if isinstance(place, str) else place
    if storage.size(RUN_PATH) is None:
        raise StorageError(f"{storage.uri}: no {RUN_PATH}, so not a run. Pass the folder <out>/<run_id>.")
    try:
        raw = json.loads(storage.read(RUN_PATH))
        inputs, about = raw["inputs"], raw["inputs"]["run"]
        intact = fingerprint(inputs) == raw["fingerprint"]
    except (ValueError, KeyError, TypeError):
        intact, raw, inputs, about = False, {}, {}, {}
    if not intact:
        raise StorageError(f"{storage.uri}/{RUN_PATH}: damaged or edited: its inputs do not give its fingerprint.")
    _refuse_other_schemas(raw, source=f"{storage.uri}/{RUN_PATH}")
    units = _read_plan(storage, fingerprint=raw["fingerprint"])
    if len(units) != about["num_units"]:
        raise StorageError(f"{storage.uri}/{PLAN_PATH}: {len(units)} units, {RUN_PATH} says {about['num_units']}.")
    stopped = read_stopped(storage)
    if stopped is not None:
        units = _cut(units, stopped, fingerprint=raw["fingerprint"], source=f"{storage.uri}/{STOPPED_PATH}")
    return Run(
        storage,
        run_id=raw["run_id"],
        fingerprint=raw["fingerprint"],
        inputs=inputs,
        units=units,
        queries=tuple(about["queries"]),
        num_heads=about["num_heads"],
        versions=raw["versions"],
        created=raw["created"],
        schemas=about["schemas"],
        num_arms=about.get("num_arms"),
        num_repeats=about.get("num_repeats"),
        stopped=stopped,
    )


def _cut(units: tuple[Unit, ...], stopped: Stopped, *, fingerprint: str, source: str) -> tuple[Unit, ...]:
    if stopped.fingerprint != fingerprint:
        raise StorageError(
            f"{source}: is of fingerprint {stopped.fingerprint[:12]}, {RUN_PATH} has {fingerprint[:12]}."
        )
    counted = {*stopped.unit_ids}
    return tuple(unit for unit in units if unit.unit_id in counted)


def _refuse_other_schemas(raw: Mapping[str, Any], *, source: str) -> None:
    """Tables of another version are not guessed at. Raises StorageError naming both versions."""
    about = raw["inputs"]["run"]
    kind = kind_of(num_arms=about.get("num_arms"), num_repeats=about.get("num_repeats"))
    if reads(about["schemas"], kind):
        return
    earlier = (name for current in kind.schemas.values() for name in EARLIER.get(current, ()))
    read = {*kind.schemas.values(), *earlier}
    other = sorted({*about["schemas"].values()} - read) or sorted(about["schemas"].values())
    raise StorageError(
        f"{source}: the run was written by rampipe {raw['versions'].get('rampipe', 'unknown')} with tables {other}; "
        f"this version reads {sorted(read)}. Read it with the version that wrote it, or capture it again."
    )


def library_versions(names: Sequence[str] = _LIBRARIES) -> dict[str, str]:
    """Installed versions, without importing anything; a library that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _plan_bytes(spec: RunSpec) -> bytes:
    schema = load_schema("plan.v1")
    columns = {name: [getattr(unit, name) for unit in spec.units] for name in schema.arrow_schema.names}
    table = pa.table([pa.array(columns[field.name], field.type) for field in schema.arrow_schema], schema.arrow_schema)
    return to_bytes(
        table, metadata={"fingerprint": spec.fingerprint, "schema": schema.id, "rows": str(len(spec.units))}
    )


def _read_plan(storage: Storage, *, fingerprint: str) -> tuple[Unit, ...]:
    source = f"{storage.uri}/{PLAN_PATH}"
    data = storage.read(PLAN_PATH)
    table = parse(data, load_schema("plan.v1"), source=source)
    found = read_metadata(data, source=source).get("fingerprint", "none")
    if found != fingerprint:
        raise StorageError(f"{source}: is the plan of fingerprint {found[:12]}, {RUN_PATH} has {fingerprint[:12]}.")
    return tuple(Unit(**row) for row in table.to_pylist())
