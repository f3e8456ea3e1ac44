"""Following a capture: it is asked to end after the units that its own watch would have taken, or refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rampipe.config import RankConfig, StopConfig
from rampipe.errors import ConfigError, IncompleteError
from rampipe.heads.follow import Patience, follow_run
from rampipe.heads.watch import StabilityWatch
from rampipe.tables.finish import finish_run
from rampipe.tables.requested import RequestedStop
from rampipe.tables.run import Run
from rampipe.tables.stop import stop_run
from rampipe.tables.stopped import REQUEST_PATH, read_stopped
from rampipe.types import HeadId
from tests.unit.heads.planted import RunShape, Study, planted_masses, shuffled_heads, write_run

NUM_UNITS, UNIT_SAMPLES, SEED = 40, 8, 3
MASSES = planted_masses(NUM_UNITS * UNIT_SAMPLES, {HeadId(1, 2): 0.7, HeadId(3, 5): 0.6})
RANK, STOP = RankConfig(bootstrap_samples=20), StopConfig(level=0.95)
AT_ONCE = Patience(poll_s=0.0, limit_s=0.0)
ON_REQUEST = {"stop": {"on_request": True, "seed": SEED}, "capture": {"calibrate": False}}


def captured(folder: Path, inputs: Mapping[str, Any], study: Study | None = None) -> Run:
    """All units are committed, and the capture has not noticed yet."""
    shape = RunShape(unit_samples=UNIT_SAMPLES, uncommitted=frozenset({NUM_UNITS}), inputs=inputs)
    return write_run(folder, study or Study(MASSES), shape)


def test_the_capture_is_asked_to_end_with_what_is_needed(tmp_path: Path) -> None:
    run, said = captured(tmp_path, ON_REQUEST), list[str]()

    def announce(text: str) -> None:
        said.append(text)
        asked = read_stopped(run.storage, REQUEST_PATH)
        if asked is not None:  # the capture's part
            finish_run(stop_run(run, asked))

    follow_run(run.storage.uri, RANK, STOP, announce=announce, patience=AT_ONCE)
    alone = StabilityWatch(run, RANK, StopConfig(level=0.95, seed=SEED))
    stopped = read_stopped(run.storage)
    assert stopped is not None
    assert stopped.heads == ("1.2", "3.5")
    assert (
        stopped.unit_ids
        == alone.order[: len(stopped.unit_ids)]
        == RequestedStop(run, seed=SEED).order[: len(stopped.unit_ids)]
    )
    assert stopped.saved_frac > 0.3
    assert len(said) == 2
    assert f"certain after {stopped.num_samples} of 320 samples" in said[1]
    follow_run(run.storage.uri, RANK, STOP, announce=said.append, patience=AT_ONCE)
    assert len(said) == 2  # finished: nothing to wait for


def test_a_capture_that_is_never_certain_is_left_alone(tmp_path: Path) -> None:
    """Twin: the same masses, dealt to heads at random; and a capture that is dead is not waited for."""
    run = captured(tmp_path, ON_REQUEST, Study(shuffled_heads(MASSES)))
    with pytest.raises(IncompleteError, match="no unit was committed for 0 s, 40 of 40 are"):
        follow_run(run.storage.uri, RANK, STOP, announce=lambda text: None, patience=AT_ONCE)
    assert read_stopped(run.storage, REQUEST_PATH) is None


@pytest.mark.parametrize(
    ("inputs", "rank", "message"),
    [
        ({}, RANK, r"reads them in the order of the dataset.*--set stop\.on_request=true"),
        ({"stop": {"level": 0.9, "seed": 0}}, RANK, r"ends by itself, at stop\.level = 0\.9"),
        (ON_REQUEST, RankConfig(metric="ram_last"), r"'ram_last' reads query group 'last'"),
        (ON_REQUEST, RankConfig(metric="ram_calibrated"), r"needs capture\.calibrate = true"),
        (ON_REQUEST, RankConfig(metric="visual_share"), r"stopping needs a metric that is bounded"),
    ],
)
def test_what_cannot_be_certain_is_refused(
    tmp_path: Path, inputs: dict[str, Any], rank: RankConfig, message: str
) -> None:
    run = captured(tmp_path, inputs)
    with pytest.raises(ConfigError, match=message):
        follow_run(run.storage.uri, rank, STOP, announce=lambda text: None, patience=AT_ONCE)
    assert run.storage.size(REQUEST_PATH) is None
