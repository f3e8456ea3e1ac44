"""Cells of one column: right whoever reads them and in whatever order, and without going back for two readers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq
import pytest

from rampipe.data import cells
from rampipe.data.cells import CellCursor
from rampipe.errors import DataError
from tests.unit.data.made import put_table, samples_of, source_of
from tests.unit.data.test_mmdocir import question, write

COUNT = 400


@pytest.fixture
def path(tmp_path):
    return put_table(tmp_path / "a.parquet", [{"cell": f"row {row}"} for row in range(COUNT)], row_group_size=300)


def test_any_order_gives_the_cells(path):
    cursor = CellCursor(path, column="cell")
    rows = [0, 17, 5, 399, 299, 300, 1, 16, 398]
    assert [cursor.cell(row) for row in rows] == [f"row {row}" for row in rows]
    with pytest.raises(DataError, match="no row 400"):
        cursor.cell(COUNT)


def test_threads_that_share_a_cursor_get_their_own_cells(path):
    cursor, barrier = CellCursor(path, column="cell"), threading.Barrier(8)

    def read(start):
        barrier.wait()
        return [cursor.cell(row) for row in range(start, start + 200)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(read, range(0, 200, 25)))
    assert found == [[f"row {row}" for row in range(start, start + 200)] for start in range(0, 200, 25)]


def test_two_readers_do_not_send_each_other_back(path, monkeypatch):
    opened, real = [], pq.ParquetFile
    monkeypatch.setattr(cells.pq, "ParquetFile", lambda *args, **keys: opened.append(args) or real(*args, **keys))
    cursor = CellCursor(path, column="cell")
    for first in range(0, 256, 64):
        for row in range(32):
            assert cursor.cell(first + row) == f"row {first + row}"
            assert cursor.cell(first + 32 + row) == f"row {first + 32 + row}"
    assert len(opened) <= 4


def test_questions_on_other_documents_at_once_see_their_own_pages(tmp_path):
    write(tmp_path, second=[question(page_id=[2], layout_mapping=[])] * 3)
    source = source_of(tmp_path, "mmdocir")
    wanted = {sample.sample_id: [image.bytes for image in sample.images] for sample in samples_of(source)}
    (shard,) = source.shards()
    shared = source_of(tmp_path, "mmdocir")

    def read(row):
        (result,) = shared.read(shard.path, row, row + 1)
        return result.sample

    with ThreadPoolExecutor(8) as pool:
        for sample in pool.map(read, [row for _ in range(40) for row in range(shard.num_rows)]):
            assert [image.bytes for image in sample.images] == wanted[sample.sample_id]
