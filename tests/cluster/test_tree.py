"""Sums that Ray merged give the ranking of one process to the byte, also when a task was lost on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from jobs.rank import main
from rampipe.engine.tree import reduce_on_cluster
from rampipe.errors import ClusterError, DataError, IncompleteError
from rampipe.heads.blocks import Wanted
from rampipe.heads.layout import Part
from rampipe.heads.metrics import metric_by_id
from rampipe.heads.reduce import find_wanted, sum_parts
from rampipe.heads.sums import PartialSums
from tests.cluster.light_worker import once
from tests.unit.heads.planted import RunShape, Study, planted_masses, write_run

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("local_ray")]
MASSES = planted_masses(40, {}, shape=(3, 4))
STUDY = Study(MASSES, domains=("docs", "films"), per_context=3, without_evidence=frozenset({2, 31}))
SHAPE = RunShape(unit_samples=3)
PARTS, SAMPLES = STUDY.parts(part_samples=3)
WANTED = find_wanted(PARTS, SAMPLES, metric_by_id("visual_share"))
GROUPS = [PARTS[start : start + 2] for start in range(0, len(PARTS), 2)]


def content(sums: PartialSums) -> tuple[bytes, ...]:
    found = sums.finished()
    assert found.elsewhere is not None
    return found.sums.tobytes(), found.counts.tobytes(), found.elsewhere.tobytes()


def dies_once(parts: Sequence[Part], wanted: Wanted) -> PartialSums:
    if once("leaf"):
        os.kill(os.getpid(), signal.SIGKILL)
    return sum_parts(parts, wanted)


def merges_after_a_death(left: PartialSums, right: PartialSums) -> PartialSums:
    if once("merge"):
        os.kill(os.getpid(), signal.SIGKILL)
    return left.merge(right)


def always_dies(parts: Sequence[Part], wanted: Wanted) -> PartialSums:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def refuses(parts: Sequence[Part], wanted: Wanted) -> PartialSums:
    raise DataError(f"{len(parts)} parts of {len(wanted.heads)} heads")


def test_the_ranking_is_that_of_one_process(tmp_path: Path) -> None:
    tables = list[dict[str, bytes]]()
    for name, flags in (("one", ()), ("many", ("--distributed", "--set", "rank.task_units=2"))):
        run = write_run(tmp_path / name, STUDY, SHAPE)
        assert main([run.storage.uri, "--set", "rank.bootstrap_samples=20", *flags]) == 0
        files = sorted(Path(run.storage.uri, "ranking").glob("**/*.parquet"))
        tables.append({file.name: file.read_bytes() for file in files})
    assert len(tables[0]) == 4
    assert tables[0] == tables[1]


def test_a_lost_task_is_made_again() -> None:
    sums = reduce_on_cluster(GROUPS, WANTED, leaf=dies_once, merge=merges_after_a_death)
    assert not once("leaf")
    assert not once("merge")
    assert content(sums) == content(sum_parts(PARTS, WANTED))


def test_a_lost_group_would_be_missed() -> None:
    """Twin: without the group of the task that died."""
    sums = reduce_on_cluster(GROUPS[1:], WANTED, leaf=sum_parts, merge=PartialSums.merge)
    with pytest.raises(IncompleteError, match="34 of 40"):
        content(sums)


def test_what_a_task_raises_arrives_as_it_is() -> None:
    with pytest.raises(DataError, match="2 parts of 12 heads"):
        reduce_on_cluster(GROUPS, WANTED, leaf=refuses, merge=PartialSums.merge)
    with pytest.raises(ClusterError, match="lost 4 times"):
        reduce_on_cluster(GROUPS[:1], WANTED, leaf=always_dies, merge=PartialSums.merge)
