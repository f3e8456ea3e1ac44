"""`stopped.json` cuts a run to the units it names, and is believed only when it is intact and of this run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rampipe.errors import StorageError
from rampipe.tables.balance import balance
from rampipe.tables.record import read_commits
from rampipe.tables.run import Run, open_run_dir
from rampipe.tables.stop import stop_run
from rampipe.tables.stopped import STOPPED_PATH, Stopped, read_stopped
from tests.unit.heads.planted import RunShape, Study, planted_masses, write_run


def four_units(folder: Path) -> Run:
    study = Study(planted_masses(16, {}, shape=(2, 2)))
    return write_run(folder, study, RunShape(unit_samples=4, uncommitted=frozenset({3})))


def stopped_with(run: Run, *unit_ids: int) -> Stopped:
    return Stopped(
        fingerprint=run.fingerprint,
        unit_ids=unit_ids,
        num_samples=4 * len(unit_ids),
        num_planned=16,
        metric="ram",
        k_frac=0.05,
        level=0.95,
        tolerance_frac=0.0,
        item="context",
        num_items=4 * len(unit_ids),
        heads=("1.1",),
    )


def test_only_the_units_it_names_are_the_run(tmp_path: Path) -> None:
    run = four_units(tmp_path)
    assert not balance(run).complete  # twin: the same units without it
    assert stop_run(run, stopped_with(run, 2, 0)).num_samples == 8
    assert list(read_commits(run.storage)) == [0, 2]
    account = balance(open_run_dir(run.storage))
    assert account.complete
    assert (account.num_units, account.num_samples, account.num_ok) == (2, 8, 8)
    assert run.storage.list("head_stats") == ["head_stats/unit-000000.parquet", "head_stats/unit-000002.parquet"]
    assert len(run.storage.list("_quarantine")) == 4  # unit 1: its commit and three tables


def test_a_unit_it_names_that_is_missing_is_missed(tmp_path: Path) -> None:
    run = four_units(tmp_path)
    cut = stop_run(run, stopped_with(run, 0, 3))
    assert balance(cut).problems == ("1 of 2 units are not committed: 3",)


def test_saved_share_in_words(tmp_path: Path) -> None:
    stopped = stopped_with(four_units(tmp_path), 2, 0)
    assert stopped.sentence == (
        "stopped after 8 of 16 samples (50.0% saved): the top 1 heads by ram are certain at 95.0%"
    )


def test_that_of_another_run_is_refused(tmp_path: Path) -> None:
    run = four_units(tmp_path)
    run.storage.publish(STOPPED_PATH, replace(stopped_with(run, 0), fingerprint="f" * 64).to_json())
    with pytest.raises(StorageError, match=r"stopped\.json: is of fingerprint ffffffffffff"):
        open_run_dir(run.storage)


@pytest.mark.parametrize("damaged", [b"", b"[]", b"{}", b'{"unit_ids": 3}'])
def test_a_damaged_one_is_refused(tmp_path: Path, damaged: bytes) -> None:
    run = four_units(tmp_path)
    run.storage.publish(STOPPED_PATH, damaged)
    with pytest.raises(StorageError, match="damaged or edited"):
        read_stopped(run.storage)
