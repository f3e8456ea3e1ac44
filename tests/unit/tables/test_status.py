"""Status from files alone: what is done, how fast, what failed, and whether anybody still works."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rampipe.tables.derived import publish_stage
from rampipe.tables.run import Run, create_run
from rampipe.tables.schema import load_schema
from rampipe.tables.status import read_status
from tests.unit.tables.synthetic import capture, commit, spec

START_S = 1_000_000.0


@pytest.fixture
def half(tmp_path: Path) -> Run:
    """Two of three units: the second was committed 20 s after the first."""
    run = create_run(str(tmp_path), spec())
    for position, unit in enumerate((2, 0)):
        commit(run, run.units[unit])
        at_s = START_S + 20 * position
        os.utime(Path(run.storage.uri) / f"_commits/unit-{unit:06d}.json", (at_s, at_s))
    return run


def test_a_running_run_has_a_pace(half: Run) -> None:
    status = read_status(half.storage, now_s=START_S + 25)
    assert (status.balance.num_committed, status.finished) == (2, False)
    assert status.pace is not None
    assert (status.pace.idle_s, status.pace.samples_per_s, status.pace.seconds_left) == (5.0, 0.2, 20.0)
    assert not status.pace.is_stopped
    assert "pace: 0.20 samples/s, about 20 s left, last commit 5 s ago" in status.lines()


def test_a_run_without_commits_for_long_is_stopped(half: Run) -> None:
    status = read_status(half.storage, now_s=START_S + 20 + 60 + 10 * 20 + 1)
    assert status.pace is not None
    assert status.pace.is_stopped
    assert "no commit for 261 s: stopped" in "\n".join(status.lines())


def test_one_commit_gives_no_rate_and_none_no_pace(tmp_path: Path) -> None:
    run = create_run(str(tmp_path), spec())
    assert read_status(run.storage, now_s=START_S).pace is None
    commit(run, run.units[0])
    pace = read_status(run.storage, now_s=START_S).pace
    assert pace is not None
    assert (pace.samples_per_s, pace.seconds_left) == (None, None)


def test_errors_are_counted_by_code_and_damage_does_not_hide_the_rest(half: Run) -> None:
    assert read_status(half.storage, now_s=START_S).error_codes == {"image_corrupt": 2}
    half.storage.replace("errors/unit-000002.parquet", b"?")
    assert read_status(half.storage, now_s=START_S).error_codes == {"image_corrupt": 1, "unreadable": 1}


def test_a_finished_run_names_its_stages_and_has_no_pace(tmp_path: Path) -> None:
    run = capture(str(tmp_path))
    ranking = load_schema("ranking.v1").arrow_schema.empty_table()
    publish_stage(run.storage, "ranking", {"ranking": ranking}, {"made": "from"})
    lines = read_status(run.storage, now_s=START_S).lines()
    assert lines[-2:] == ["stages: ranking", "finished: yes"]
    assert not [line for line in lines if line.startswith("pace")]
