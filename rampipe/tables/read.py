"""The rows of a run as Polars LazyFrames, from committed files only: a consistent picture even while it is running."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from rampipe.errors import StorageError
from rampipe.tables.balance import Balance, balance
from rampipe.tables.columns import CommittedTable
from rampipe.tables.derived import stage_files
from rampipe.tables.record import CommitRecord, CommittedFile, read_commits
from rampipe.tables.run import PLAN_PATH, Run, open_run_dir
from rampipe.tables.schema import TableSchema, latest_schema, load_schema

Check = Literal["size", "sha256"]


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run opened for reading. The frames are of the units that were committed when it was opened."""

    run: Run
    commits: Mapping[int, CommitRecord]

    @property
    def head_stats(self) -> pl.LazyFrame:
        """One row per sample, query group, layer and head."""
        return self._committed("head_stats")

    @property
    def head_stats_files(self) -> list[CommittedTable]:
        """The files of `head_stats`, for readers that want their pages verified."""
        schema = load_schema(self.run.schemas["head_stats"])
        paths = [self.commits[unit].path_of("head_stats") for unit in sorted(self.commits)]
        return [CommittedTable(self.run.storage, path, schema) for path in paths]

    @property
    def samples(self) -> pl.LazyFrame:
        """One row per measured sample."""
        return self._committed("samples")

    @property
    def errors(self) -> pl.LazyFrame:
        """One row per sample that could not be measured."""
        return self._committed("errors")

    @property
    def outcomes(self) -> pl.LazyFrame:
        """Of an ablation: one row per sample and arm."""
        return self._committed("outcomes")

    @property
    def timings(self) -> pl.LazyFrame:
        """Of a run of timings: one row per arm, context length and repetition."""
        return self._committed("timings")

    @property
    def plan(self) -> pl.LazyFrame:
        """One row per unit."""
        return self._scan([PLAN_PATH], load_schema("plan.v1"))

    @property
    def ranking(self) -> pl.LazyFrame:
        """The ranking of the heads, once the rank job has run."""
        return self.stage("ranking", "ranking")

    @property
    def balance(self) -> Balance:
        """Planned, measured and failed, and what does not add up."""
        return balance(self.run, self.commits)

    def stage(self, stage: str, table: str) -> pl.LazyFrame:
        """One table of a later stage, e.g. `stage("ranking", "stability")`. Raises StorageError when it is missing."""
        files = stage_files(self.run.storage, stage)
        if table not in files:
            there = (
                f"has {sorted(files)}" if files else f"does not exist: run `python -m jobs.rank {self.run.storage.uri}`"
            )
            raise StorageError(f"{self.run.storage.uri}: no table {table!r} of stage {stage!r}, which {there}.")
        return self._scan([files[table]], latest_schema(table))

    def _committed(self, table: str) -> pl.LazyFrame:
        paths = [record.path_of(table) for record in self.commits.values()]
        return self._scan(paths, load_schema(self.run.schemas[table]))

    def _scan(self, paths: Sequence[str], schema: TableSchema) -> pl.LazyFrame:
        if not paths:
            return pl.DataFrame(schema.arrow_schema.empty_table()).lazy()
        uri = self.run.storage.uri
        options = _s3_options() if uri.startswith("s3://") else None
        return pl.scan_parquet(
            [f"{uri}/{path}" for path in paths], glob=False, hive_partitioning=False, storage_options=options
        )


def open_run(path: str | os.PathLike[str], *, check: Check | Mapping[str, Check] = "size") -> OpenRun:
    """Open a run folder or s3:// prefix for reading.

    check: "size" looks at every committed file; "sha256" reads all of them once, and finds flipped bits too, which
    Polars would read as wrong values; or one of these by table, "size" for those that are not named.
    Raises StorageError naming a file that is not what was committed.
    """
    run = open_run_dir(os.fspath(path))
    commits = read_commits(run.storage)
    sizes = {path: size for table in run.schemas for path, size in run.storage.sizes(table).items()}
    for record in commits.values():
        for file in record.files:
            how = check if isinstance(check, str) else check.get(file.path.partition("/")[0], "size")
            _check_file(run, file, size=sizes.get(file.path), check=how)
    return OpenRun(run, commits)


def _check_file(run: Run, file: CommittedFile, *, size: int | None, check: Check) -> None:
    place = f"{run.storage.uri}/{file.path}"
    if size != file.bytes:
        seen = "is missing" if size is None else f"has {size} bytes"
        raise StorageError(f"{place}: {seen}, committed were {file.bytes}. Run `rampipe repair` on the run.")
    if check == "sha256" and hashlib.sha256(run.storage.read(file.path)).hexdigest() != file.sha256:
        raise StorageError(f"{place}: its bytes have changed since they were committed. Run `rampipe repair`.")


def _s3_options() -> dict[str, str]:
    """Polars' options for an S3 endpoint other than Amazon's; credentials it finds in the environment by itself."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return {}
    return {"aws_endpoint_url": endpoint, "aws_allow_http": str(endpoint.startswith("http://")).lower()}
