"""What must hold after every fault: the rows of an undisturbed run, and nothing touched that was committed before."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl

from rampipe.data import open_source
from rampipe.engine.plan import make_spec
from rampipe.tables.commit import read_commits
from rampipe.tables.read import open_run
from rampipe.tables.run import create_run, open_run_dir
from rampipe.tables.storage import open_storage
from rampipe.tables.verify import row_set_hash, verify
from tests.cluster.conftest import make_config
from tests.cluster.light_worker import LightWorker

KEY = ["sample_id", "query", "layer", "head"]
Committed = dict[Path, tuple[int, str]]


def golden_run(sample_folder: Path, out: Path, *overrides: str) -> str:
    """Folder of the run when one worker does all units in this process."""
    config = make_config(sample_folder, out, *overrides)
    created = create_run(str(out), make_spec(config, open_source(config.data)))
    commit_units(created.storage.uri, sample_folder, out, *overrides, stop=None)
    return created.storage.uri


def commit_units(run_uri: str, sample_folder: Path, out: Path, *overrides: str, stop: int | None) -> None:
    """The first units, up to `stop`, as if a run had been interrupted after them."""
    run, config = open_run_dir(run_uri), make_config(sample_folder, out, *overrides)
    worker = LightWorker(config, run_uri=run_uri, fingerprint=run.fingerprint)
    for unit in run.units[:stop]:
        worker.run_unit(unit, attempt=1)


def committed(folder: Path) -> Committed:
    """Time of change and content of every commit and of every file that a commit names."""
    records = read_commits(open_storage(str(folder))).values()
    named = [folder / file.path for record in records for file in record.files]
    paths = [*named, *(folder / "_commits").glob("*.json")]
    return {path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths}


def check_same_rows(run_uri: str, golden: str, before: Committed | None = None) -> None:
    """Raises AssertionError unless the run is whole and has exactly the golden rows. before: of `committed`."""
    storage = open_storage(run_uri)
    assert verify(storage).problems == ()
    assert {*read_commits(storage)} == {unit.unit_id for unit in open_run_dir(run_uri).units}
    assert row_set_hash(storage) == row_set_hash(open_storage(golden))
    rows = open_run(run_uri, check="sha256").head_stats.select(KEY).collect()
    assert rows.unique().height == rows.height
    assert pl.read_parquet(f"{run_uri}/head_stats/*.parquet").height == rows.height
    check_untouched(run_uri, before)


def check_untouched(run_uri: str, before: Committed | None) -> None:
    """What was committed before still has its time of change and its content."""
    after = committed(Path(run_uri))
    assert {path: after.get(path) for path in before or {}} == (before or {})


def check_same_rows_but_one(run_uri: str, golden: str, sample_id: str) -> None:
    """One sample is an error row; every other row is the golden one."""
    assert verify(open_storage(run_uri)).problems == ()
    run, expected = open_run(run_uri), open_run(golden)
    assert run.errors.collect()["sample_id"].to_list() == [sample_id]
    wanted = expected.head_stats.filter(pl.col("sample_id") != sample_id).sort(KEY).collect()
    assert run.head_stats.sort(KEY).collect().equals(wanted)
