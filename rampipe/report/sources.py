"""What a report is made of: the run, its committed rows, and the derived tables that exist.

A derived table that nobody has made yet is null, and its section says which command makes it. A table that exists but
is damaged or of another schema is an error: a page must not look complete without it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl
import pyarrow as pa

from rampipe.errors import StorageError
from rampipe.tables.balance import Balance
from rampipe.tables.chain import ranking_sha256
from rampipe.tables.derived import stage_files
from rampipe.tables.finish import SUCCESS_PATH, read_success, success_content
from rampipe.tables.parquet import parse
from rampipe.tables.read import OpenRun, open_run
from rampipe.tables.record import CommitRecord
from rampipe.tables.run import RUN_PATH, Run, library_versions
from rampipe.tables.schema import latest_schema, load_schema
from rampipe.tables.storage import Storage
from rampipe.types import HeadId

PAGE_VERSION = 12
"""Raised by hand when the page changes, so that pages of older versions are made again."""

STAGES = ("ranking", "examples", "screen", "ablation", "speed", "asked")
"""Stages whose tables the page shows, in the order in which they are made."""

LISTS = "lists"
"""Folder of the head lists of others, in `files` by their paths."""

ANSWERS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "ablation": ("ablation", ("outcomes",), ("commits_sha256",)),
    "speed": ("speed/answers", ("answers", "run_id"), ("answers", "commits_sha256")),
}
"""Of the stages that judge answers: the folder of their runs, and where `made_from` names the one that was judged and
its rows.
"""


@dataclass(frozen=True)
class Sources:
    """One run as the report reads it.

    files: bytes of every derived table that exists, by `stage/name`. made_from: what each stage says it was made from,
    by stage. answers: the runs that ablation and speed judged, by stage, where they are still there.
    """

    run: Run
    commits: Mapping[int, CommitRecord]
    balance: Balance
    finished: bool
    files: Mapping[str, bytes]
    made_from: Mapping[str, Mapping[str, Any]]
    answers: Mapping[str, OpenRun]

    @property
    def ranking_from(self) -> Mapping[str, Any]:
        """What the ranking was made from; empty without one."""
        return self.made_from.get("ranking", {})

    @cached_property
    def samples(self) -> pl.DataFrame:
        """Rows of all committed units."""
        return self._committed("samples", self.commits.values())

    @cached_property
    def errors(self) -> pl.DataFrame:
        """Rows of all committed units, `errors.v1`."""
        return self._committed("errors", self.commits.values())

    @cached_property
    def ranking_id(self) -> str | None:
        """Identity of the ranking, as plans of arms name it; None without one."""
        return ranking_sha256(self.run)

    @property
    def ranking_is_stale(self) -> bool:
        """Whether the ranking was made from other rows than those that are committed now."""
        made_from = self.ranking_from.get("commits_sha256")
        return made_from is not None and made_from != success_content(self.run, self.commits)["commits_sha256"]

    def stage_notes(self, stage: str) -> list[str]:
        """Sentences when a stage was judged before its answers were finished, or its heads are of another ranking."""
        _, name, rows = ANSWERS[stage]
        made_from, notes = self.made_from.get(stage, {}), list[str]()
        if _at(made_from, name) is not None and _at(made_from, rows) is None:
            notes.append(
                f"PARTIAL: the tables of {stage} were judged before every sample was answered. Run its job again."
            )
        arms = self.answers[stage].run.inputs.get("arms", {}) if stage in self.answers else {}
        if self.ranking_id is not None and arms.get("ranking_sha256", self.ranking_id) != self.ranking_id:
            notes.append(
                "These heads were chosen from another ranking than the one above: by another metric, of other rows or "
                "for another share of heads. Run its job again, or rank as then."
            )
        return notes

    def answers_are_stale(self, stage: str) -> bool:
        """Whether the tables of a stage were judged from other answers than those that are there now."""
        success = read_success(self.answers[stage].run.storage)
        judged = _at(self.made_from[stage], ANSWERS[stage][2])
        return judged != (None if success is None else success.commits_sha256)

    def table(self, stage: str, name: str) -> pl.DataFrame | None:
        """A derived table, or None when it was not made.

        Raises StorageError when it is damaged, DataError when it has another schema.
        """
        path = f"{stage}/{name}"
        if path not in self.files:
            return None
        source = f"{self.run.storage.uri}: table {path}"
        return pl.DataFrame(parse(self.files[path], latest_schema(name), source=source))

    def evidence_masses(self, sample_ids: Iterable[str]) -> dict[tuple[str, str, HeadId], float]:
        """Evidence mass by (sample_id, query, head) of a few samples, read from the units that hold them."""
        is_wanted = pl.col("sample_id").is_in(sorted(set(sample_ids)))
        found: dict[tuple[str, str, HeadId], float] = {}
        for record in self.commits.values():
            if self._committed("samples", [record]).filter(is_wanted).is_empty():
                continue
            rows = self._committed("head_stats", [record]).filter(is_wanted, pl.col("mass_evidence").is_not_null())
            columns = rows.select("sample_id", "query", "layer", "head", "mass_evidence")
            for sample_id, query, layer, head, mass in columns.iter_rows():
                found[(sample_id, query, HeadId(layer, head))] = mass
        return found

    def digest(self) -> str:
        """SHA-256 over everything the page shows: equal digests give equal pages."""
        digest = hashlib.sha256(f"page {PAGE_VERSION}, rampipe {rampipe_version()}\n".encode())
        digest.update(self.run.storage.read(RUN_PATH))
        digest.update(f"finished {self.finished} {json.dumps(self.made_from, sort_keys=True)}\n".encode())
        for commits in (self.commits, *(opened.commits for _, opened in sorted(self.answers.items()))):
            digest.update(f"{len(commits)} commits\n".encode())
            for record in commits.values():
                digest.update(record.to_json())
        for name in sorted(self.files):
            digest.update(f"{name} {len(self.files[name])}\n".encode())
            digest.update(self.files[name])
        return digest.hexdigest()

    def _committed(self, table: str, records: Iterable[CommitRecord]) -> pl.DataFrame:
        """Rows of some units, page checksums verified; empty with the right columns when there is none."""
        schema = load_schema(self.run.schemas[table])
        parts = [schema.arrow_schema.empty_table()]
        for record in records:
            path = record.path_of(table)
            data = self.run.storage.read(path)
            parts.append(parse(data, schema, source=f"{self.run.storage.uri}/{path}").cast(schema.arrow_schema))
        return pl.DataFrame(pa.concat_tables(parts))


def read_sources(run_path: str) -> Sources:
    """Open a run folder or prefix. Raises StorageError when it is none or is damaged."""
    opened = open_run(run_path)
    storage = opened.run.storage
    paths = {f"{stage}/{name}": path for stage in STAGES for name, path in stage_files(storage, stage).items()}
    paths |= {path: path for path in storage.list(LISTS) if path.endswith(".json")}
    made = {
        stage: _made_from(storage, stage) for stage in STAGES if any(path.startswith(f"{stage}/") for path in paths)
    }
    success = read_success(storage)
    current = success_content(opened.run, opened.commits)["commits_sha256"]
    return Sources(
        opened.run,
        opened.commits,
        opened.balance,
        success is not None and success.commits_sha256 == current,
        {name: storage.read(path) for name, path in paths.items()},
        made,
        {stage: run for stage in ANSWERS if (run := _judged(storage, stage, made.get(stage, {}))) is not None},
    )


def rampipe_version() -> str:
    """The installed version; `source` for a checkout that is not installed."""
    return library_versions(("rampipe",)).get("rampipe", "source")


def _made_from(storage: Storage, stage: str) -> dict[str, Any]:
    """What `<stage>/_SUCCESS.json` says about its inputs."""
    path = f"{stage}/{SUCCESS_PATH}"
    try:
        return dict(json.loads(storage.read(path))["made_from"])
    except (ValueError, KeyError, TypeError):
        raise StorageError(f"{storage.uri}/{path}: damaged. Run the job of this stage again.") from None


def _at(content: Mapping[str, Any], keys: Iterable[str]) -> Any:
    """A nested value; null where there is none."""
    found: Any = content
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _judged(storage: Storage, stage: str, made_from: Mapping[str, Any]) -> OpenRun | None:
    """The run of the answers that a stage judged; null when it was not published with the tables."""
    folder, keys, _ = ANSWERS[stage]
    found = _at(made_from, keys)
    # A name, not a path: the file could have been written by anyone.
    if not isinstance(found, str) or not re.fullmatch(r"[\w-]+", found):
        return None
    path = f"{folder}/{found}"
    return None if storage.size(f"{path}/{RUN_PATH}") is None else open_run(f"{storage.uri}/{path}")
