"""A capture that ends when the top set is certain: after the same units, whatever finished first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rampipe.config import RankConfig, StopConfig
from rampipe.errors import ConfigError
from rampipe.heads.rank import rank_run
from rampipe.heads.summary import summary_lines
from rampipe.heads.watch import BOUNDS, StabilityWatch
from rampipe.tables.balance import balance
from rampipe.tables.finish import finish_run
from rampipe.tables.read import open_run
from rampipe.tables.run import Run, open_run_dir
from rampipe.tables.stop import stop_run
from rampipe.tables.stopped import read_stopped
from rampipe.tables.verify import verify
from rampipe.types import HeadId
from tests.unit.heads.planted import RunShape, Study, planted_masses, shuffled_heads, write_run

NUM_SAMPLES, UNIT_SAMPLES = 320, 8
PLANTED = {HeadId(1, 2): 0.7, HeadId(3, 5): 0.6}
MASSES = planted_masses(NUM_SAMPLES, PLANTED)
RANK, STOP = RankConfig(bootstrap_samples=20), StopConfig(level=0.95)
NUM_UNITS = NUM_SAMPLES // UNIT_SAMPLES


def open_ended(folder: Path, study: Study) -> Run:
    """Every unit is committed, and the run is not finished, as if one more were left open."""
    return write_run(folder, study, RunShape(unit_samples=UNIT_SAMPLES, uncommitted=frozenset({NUM_UNITS})))


def watched(run: Run, unit_ids: list[int], stop: StopConfig = STOP) -> StabilityWatch:
    """What a driver does: tell of every unit until it is enough."""
    watch = StabilityWatch(run, RANK, stop)
    for unit_id in unit_ids:
        if watch.is_certain:
            break
        watch.add_unit(unit_id)
    return watch


def in_order(run: Run, stop: StopConfig = STOP) -> list[int]:
    return list(StabilityWatch(run, RANK, stop).order)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return open_ended(tmp_path_factory.mktemp("planted"), Study(MASSES))


def test_planted_heads_are_certain_long_before_the_end(planted: Run) -> None:
    watch = watched(planted, in_order(planted))
    stopped = watch.stopped()
    assert stopped is not None
    assert stopped.heads == ("1.2", "3.5")
    assert stopped.saved_frac > 0.3
    assert stopped.num_samples == stopped.num_items == len(stopped.unit_ids) * UNIT_SAMPLES


def test_heads_without_a_meaning_are_never_certain(tmp_path: Path) -> None:
    """Twin: the same masses, dealt to heads at random."""
    run = open_ended(tmp_path, Study(shuffled_heads(MASSES)))
    watch = watched(run, in_order(run))
    assert watch.num_taken == NUM_UNITS
    assert not watch.is_certain
    assert watch.stopped() is None


@pytest.mark.parametrize("seed", range(3))
def test_units_count_in_one_order_whichever_finishes_first(planted: Run, seed: int) -> None:
    straight = watched(planted, in_order(planted))
    finished = np.random.default_rng(seed).permutation(in_order(planted)).tolist()
    assert watched(planted, finished).stopped() == straight.stopped()
    other = watched(planted, in_order(planted, StopConfig(level=0.95, seed=1)), StopConfig(level=0.95, seed=1))
    assert other.order != straight.order


def test_more_doubt_and_stricter_levels_take_longer(planted: Run) -> None:
    taken = [
        watched(planted, in_order(planted, stop), stop).num_taken
        for stop in (StopConfig(level=0.5), StopConfig(level=0.999))
    ]
    assert taken[0] < taken[1]


def test_equal_heads_are_enough_within_a_tolerance(tmp_path: Path) -> None:
    """Two heads share the last place: no number of samples tells them apart."""
    masses = planted_masses(NUM_SAMPLES, {HeadId(0, 0): 0.8, HeadId(1, 1): 0.5, HeadId(2, 2): 0.5})
    run = open_ended(tmp_path, Study(masses))
    strict = watched(run, in_order(run))
    assert not strict.is_certain
    assert strict.membership is not None
    assert strict.membership.inside.sum() == 1
    undecided = ~strict.membership.inside & ~strict.membership.outside
    assert np.flatnonzero(undecided).tolist() == [9, 18]
    lenient = StopConfig(level=0.95, tolerance_frac=0.4)
    stopped = watched(run, in_order(run, lenient), lenient).stopped()
    assert stopped is not None
    assert "certain within 40.0%" in stopped.sentence


def test_whole_units_as_items_are_slower_and_need_no_order(planted: Run) -> None:
    by_unit = StopConfig(level=0.95, item="unit", tolerance_frac=0.5)
    by_context = StopConfig(level=0.95, tolerance_frac=0.5)
    slow, fast = (watched(planted, in_order(planted, stop), stop) for stop in (by_unit, by_context))
    assert fast.num_taken < slow.num_taken
    stopped = slow.stopped()
    assert stopped is None or stopped.num_items == slow.num_taken


def test_questions_about_one_context_are_one_item(planted: Run, tmp_path: Path) -> None:
    alone = watched(planted, in_order(planted))
    run = open_ended(tmp_path, Study(np.repeat(MASSES[::8], 8, axis=0), per_context=8))
    shared = watched(run, in_order(run))
    assert shared.num_taken > 3 * alone.num_taken
    stopped = shared.stopped()
    assert stopped is None or stopped.num_items == shared.num_taken


def test_a_stopped_run_is_whole_and_says_so(tmp_path: Path) -> None:
    run = open_ended(tmp_path, Study(MASSES))
    stopped = watched(run, in_order(run)).stopped()
    assert stopped is not None
    cut = stop_run(run, stopped)
    assert {unit.unit_id for unit in cut.units} == {*stopped.unit_ids}
    success = finish_run(cut)
    assert success.num_ok == stopped.num_samples < NUM_SAMPLES
    assert balance(open_run_dir(cut.storage)).complete
    assert verify(cut.storage).problems == ()
    opened = open_run(cut.storage.uri)
    assert opened.samples.collect().height == stopped.num_samples
    ranking = rank_run(cut.storage.uri, RANK)
    assert [str(head) for head in ranking.core_heads()] == list(stopped.heads)
    shown = "\n".join(summary_lines(ranking))
    assert f"stopped after {stopped.num_samples} of {NUM_SAMPLES} samples" in shown
    assert "PARTIAL" not in shown
    assert stopped.sentence in (Path(cut.storage.uri) / "README.md").read_text()
    left = [path.name for path in (Path(cut.storage.uri) / "head_stats").iterdir()]
    assert len(left) == len(stopped.unit_ids)  # a plain glob reads the same rows


def test_what_is_published_after_the_stop_is_ignored_but_named(tmp_path: Path) -> None:
    run = open_ended(tmp_path, Study(MASSES))
    stopped = watched(run, in_order(run)).stopped()
    assert stopped is not None
    late = Path(run.storage.uri) / "_commits" / f"unit-{stopped.unit_ids[0]:06d}.json"
    extra = next(unit for unit in run.units if unit.unit_id not in stopped.unit_ids)
    record = (Path(run.storage.uri) / "_commits" / f"{extra.name}.json").read_bytes()
    finish_run(stop_run(run, stopped))
    (late.parent / f"{extra.name}.json").write_bytes(record)
    assert len(open_run(run.storage.uri).commits) == len(stopped.unit_ids)
    assert balance(open_run_dir(run.storage)).complete
    assert any(str(extra.unit_id) in problem for problem in verify(run.storage).problems)


def test_the_first_stop_wins(tmp_path: Path) -> None:
    run = open_ended(tmp_path, Study(MASSES))
    stopped = watched(run, in_order(run)).stopped()
    assert stopped is not None
    stop_run(run, stopped)
    later = stop_run(run, replace(stopped, unit_ids=stopped.unit_ids[:3]))
    assert later.stopped == stopped == read_stopped(run.storage)


def test_a_metric_that_may_be_negative_keeps_its_order(tmp_path: Path) -> None:
    """One head gives the evidence as much without the question: it is not among the calibrated."""
    null = np.full_like(MASSES, 0.02)
    null[:, 3, 5] = MASSES[:, 3, 5]
    run = open_ended(tmp_path, Study(MASSES, null=null))
    watch = StabilityWatch(run, RankConfig(metric="ram_calibrated", k_frac=0.025), STOP)
    for unit_id in watch.order:
        watch.add_unit(unit_id)
    stopped = watch.stopped()
    assert stopped is not None
    assert stopped.heads == ("1.2",)


@pytest.mark.parametrize("metric", ["lift", "visual_share"])
def test_metrics_without_known_bounds_are_refused(planted: Run, metric: str) -> None:
    assert metric not in BOUNDS
    with pytest.raises(ConfigError, match=rf"rank\.metric = '{metric}'.*ram_calibrated"):
        StabilityWatch(planted, RankConfig(metric=metric), STOP)


def test_a_share_of_a_negative_metric_is_refused(planted: Run) -> None:
    with pytest.raises(ConfigError, match=r"stop\.tolerance_frac = 0\.1"):
        StabilityWatch(planted, RankConfig(metric="ram_calibrated"), StopConfig(level=0.9, tolerance_frac=0.1))
