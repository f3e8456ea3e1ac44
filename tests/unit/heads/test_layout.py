"""Keys are decoded once for all files that store them alike, and no damaged or other file passes for one of these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from rampipe.errors import DataError, IncompleteError, StorageError
from rampipe.heads.layout import KEYS, Layouts, Part
from rampipe.heads.metrics import metric_by_id
from rampipe.heads.reduce import find_wanted, sum_parts
from rampipe.tables.read import open_run
from rampipe.tables.run import Run
from rampipe.types import HeadId
from tests.unit.heads.planted import RunShape, Study, part_of, planted_masses, write_run

SHAPE = (3, 4)
HEADS = tuple(HeadId(layer, head) for layer in range(3) for head in range(4))
STUDY = Study(planted_masses(20, {}, shape=SHAPE), queries=("question", "last"))


def run_of(folder: Path) -> Run:
    return write_run(folder, STUDY, RunShape(unit_samples=8))


def find(layouts: Layouts, part: Part) -> np.ndarray | None:
    with part.open() as rows:
        return layouts.find(rows)


def test_files_of_as_many_samples_share_one_layout(tmp_path: Path) -> None:
    layouts = Layouts("question", HEADS)
    found = [find(layouts, part) for part in open_run(run_of(tmp_path).storage.uri).head_stats_files]
    assert [None if groups is None else groups.tolist() for groups in found] == [
        [True, False] * 8,
        [True, False] * 8,
        [True, False] * 4,
    ]
    assert found[0] is found[1]  # not decoded again
    assert len(layouts.known) == 2


@pytest.mark.parametrize("other", ["rows", "heads", "queries"])
def test_other_keys_are_another_layout(other: str) -> None:
    straight = Study(STUDY.evidence, queries=("question", "last")).frames()[0].collect()
    layouts = Layouts("question", HEADS)
    assert find(layouts, part_of(straight)) is not None
    if other == "rows":
        assert find(layouts, part_of(straight.reverse())) is None
    elif other == "heads":
        assert find(Layouts("question", HEADS[::-1]), part_of(straight)) is None
    else:
        groups = find(layouts, part_of(Study(STUDY.evidence, queries=("last", "answer")).frames()[0]))
        assert groups is not None
        assert not groups.any()


def test_a_flipped_bit_in_the_keys_of_a_later_file_is_found(tmp_path: Path) -> None:
    """Or lies where no value does, as in the statistics of a page; never does it give other sums."""
    opened = open_run(run_of(tmp_path).storage.uri)
    parts, metric = opened.head_stats_files, metric_by_id("ram")
    wanted = find_wanted(parts, opened.samples, metric)
    whole = sum_parts(parts, wanted).finished().sums.tobytes()
    path, found = Path(parts[1].name), 0
    chunks = [pq.read_metadata(path).row_group(0).column(place) for place in (2, 3, 4)]
    assert tuple(chunk.path_in_schema for chunk in chunks) == KEYS
    data = path.read_bytes()
    path.unlink()
    for chunk in chunks:
        for place in range(chunk.data_page_offset - 30, chunk.data_page_offset + chunk.total_compressed_size - 40, 5):
            damaged = bytearray(data)
            damaged[place] ^= 0x10
            path.write_bytes(damaged)
            try:
                assert sum_parts(parts, wanted).finished().sums.tobytes() == whole
            except (StorageError, DataError, IncompleteError):
                found += 1
    assert found > 10
