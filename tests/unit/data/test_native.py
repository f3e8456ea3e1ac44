"""The native format: what is refused when planning, what becomes an error row, what is read."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rampipe.config import DataConfig
from rampipe.data import open_source
from rampipe.errors import DataError, SampleError
from rampipe.tables.shards import samples_table, write_shards
from rampipe.types import ContextPart, Evidence, Sample, StoredImage


def make_sample(index: int = 0, **changes) -> Sample:
    sample = Sample(
        sample_id=f"sample-{index}",
        domain="test",
        context=(ContextPart(kind="image", image=0), ContextPart(kind="text", text="the key is 17")),
        images=(StoredImage(bytes=b"not decoded here", path="a.png"),),
        question="What is the key?",
        answers=("17",),
        choices=None,
        evidence=(
            Evidence(kind="box", image=0, box=(0.0, 1.0, 2.0, 3.0)),
            Evidence(kind="text", part=1, start=11, stop=13),
        ),
    )
    return replace(sample, **changes)


def rewrite(path: Path, column: str, values: pa.Array) -> None:
    """Replace one column of a shard, as another program would write it."""
    table = pq.read_table(path)
    index = table.schema.get_field_index(column)
    pq.write_table(table.set_column(index, pa.field(column, values.type), values), path)


def source_of(folder: Path, **keys):
    return open_source(DataConfig(path=str(folder), **keys))


def read_all(source):
    return [result for shard in source.shards() for result in source.read(shard.path, 0, shard.num_rows)]


def test_what_is_written_is_read_back(tmp_path):
    samples = [make_sample(index) for index in range(5)]
    write_shards(samples, tmp_path, split="val", rows_per_shard=2)
    source = source_of(tmp_path, split="val")
    assert [result.sample for result in read_all(source)] == samples
    shards = source.shards()
    assert [(shard.path, shard.num_rows) for shard in shards] == [
        ("val-00000.parquet", 2),
        ("val-00001.parquet", 2),
        ("val-00002.parquet", 1),
    ]
    data = (tmp_path / "val-00001.parquet").read_bytes()
    assert shards[1].digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert shards[1].num_bytes == len(data)


def test_bytes_depend_on_samples_only(tmp_path):
    samples = [make_sample(index) for index in range(3)]
    first = write_shards(iter(samples), tmp_path / "a", split="val")
    again = write_shards(samples, tmp_path / "b", split="val")
    other = write_shards([*samples[:2], make_sample(9)], tmp_path / "c", split="val")
    assert first[0].read_bytes() == again[0].read_bytes() != other[0].read_bytes()


def test_writing_beside_old_shards_is_refused(tmp_path):
    write_shards([make_sample()], tmp_path, split="val")
    write_shards([make_sample()], tmp_path, split="train")
    with pytest.raises(DataError, match=r"holds shards of split 'val' already \(val-00000"):
        write_shards([make_sample()], tmp_path, split="val")


def test_rows_are_numbered_by_the_shard_across_row_groups(tmp_path):
    table = samples_table([make_sample(index) for index in range(40)])
    pq.write_table(table, tmp_path / "val-0.parquet", row_group_size=18)
    results = list(source_of(tmp_path).read("val-0.parquet", 15, 37))
    assert [result.row for result in results] == list(range(15, 37))
    assert [result.sample_id for result in results] == [f"sample-{row}" for row in range(15, 37)]


def test_rows_beyond_the_shard_are_refused(tmp_path):
    write_shards([make_sample()], tmp_path, split="val")
    with pytest.raises(DataError, match="rows 0 to 2 of 1"):
        list(source_of(tmp_path).read("val-00000.parquet", 0, 2))
    with pytest.raises(DataError, match="rows 0 to 2 of 1"):
        source_of(tmp_path).read_ids("val-00000.parquet", 0, 2)


def test_ids_are_those_of_the_rows_across_row_groups(tmp_path):
    table = samples_table([make_sample(index) for index in range(40)])
    pq.write_table(table, tmp_path / "val-0.parquet", row_group_size=18)
    source = source_of(tmp_path)
    ids = [result.sample_id for result in source.read("val-0.parquet", 15, 37)]
    assert source.read_ids("val-0.parquet", 15, 37) == ids
    assert source.read_ids("val-0.parquet", 14, 37) != ids


def test_split_selects_by_file_name(tmp_path):
    write_shards([make_sample(1)], tmp_path / "deep", split="val")
    write_shards([make_sample(2)], tmp_path, split="valid")
    assert [shard.path for shard in source_of(tmp_path, split="val").shards()] == ["deep/val-00000.parquet"]
    assert [shard.path for shard in source_of(tmp_path).shards()] == ["deep/val-00000.parquet", "valid-00000.parquet"]


@pytest.mark.parametrize(("split", "there"), [("test", "val-00000.parquet"), (None, "empty or missing")])
def test_no_shards_lists_what_is_there(tmp_path, split, there):
    if split:
        write_shards([make_sample()], tmp_path, split="val")
    with pytest.raises(DataError, match=there):
        source_of(tmp_path, split=split).shards()


@pytest.mark.fault("B7")
@pytest.mark.parametrize("num_bytes", [0, 3, 400])
def test_truncated_shard_fails_by_name(tmp_path, num_bytes):
    write_shards([make_sample(index) for index in range(4)], tmp_path, split="val", rows_per_shard=2)
    broken = tmp_path / "val-00001.parquet"
    broken.write_bytes(broken.read_bytes()[:num_bytes])
    with pytest.raises(DataError, match=r"val-00001\.parquet: not a readable Parquet file"):
        source_of(tmp_path).shards()


@pytest.mark.fault("B7")
def test_flipped_bit_in_a_page_is_found_when_reading(tmp_path):
    path = write_shards([make_sample(index) for index in range(4)], tmp_path, split="val")[0]
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(6)
    data[column.data_page_offset + column.total_compressed_size - 3] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"val-00000\.parquet"):
        list(source_of(tmp_path).read("val-00000.parquet", 0, 4))
    # Ids are a column of their own: nothing else is read for them.
    ids = source_of(tmp_path).read_ids("val-00000.parquet", 0, 4)
    assert ids == [f"sample-{index}" for index in range(4)]


@pytest.mark.fault("B8", "B9")
def test_missing_and_mistyped_columns_fail_by_name(tmp_path):
    path = write_shards([make_sample()], tmp_path, split="val")[0]
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["question"]), path)
    with pytest.raises(DataError, match=r"val-00000\.parquet: .*no column 'question'"):
        source_of(tmp_path).shards()
    pq.write_table(table, path)
    rewrite(path, "domain", pa.array([7]))
    with pytest.raises(DataError, match="column 'domain' is int64, not string"):
        source_of(tmp_path).shards()


@pytest.mark.fault("B8")
@pytest.mark.parametrize("column", ["sample_id", "domain", "context", "images", "question", "answers", "evidence"])
def test_null_in_a_required_column_is_named(tmp_path, column):
    path = write_shards([make_sample(index) for index in range(3)], tmp_path, split="val")[0]
    values = pq.read_table(path).column(column).to_pylist()
    kind = samples_table([]).schema.field(column).type
    rewrite(path, column, pa.array([values[0], None, values[2]], type=kind))
    with pytest.raises(DataError, match=rf"val-00000.parquet: column '{column}' is null in row 1"):
        source_of(tmp_path).shards()


def test_null_choices_and_empty_evidence_are_fine(tmp_path):
    write_shards([make_sample(0, choices=None, evidence=(), answers=())], tmp_path, split="val")
    assert [result.sample.evidence for result in read_all(source_of(tmp_path))] == [()]


@pytest.mark.fault("B10")
def test_duplicate_ids_name_both_places(tmp_path):
    write_shards([make_sample(0), make_sample(1)], tmp_path, split="a")
    write_shards([make_sample(2), make_sample(3), make_sample(1)], tmp_path, split="b", rows_per_shard=2)
    message = r"'sample-1' occurs twice: shard a-00000.parquet row 1, and shard b-00001.parquet row 0"
    with pytest.raises(DataError, match=message):
        source_of(tmp_path).shards()
    assert len(source_of(tmp_path, split="b").shards()) == 2


@pytest.mark.fault("B15")
@pytest.mark.parametrize(("column", "sample_id"), [("question", "sample-1"), ("sample_id", b"\xff\xfe".hex())])
def test_text_that_is_not_utf8_costs_one_row(tmp_path, column, sample_id):
    path = write_shards([make_sample(index) for index in range(3)], tmp_path, split="val")[0]
    values = [value.encode() for value in pq.read_table(path).column(column).to_pylist()]
    values[1] = b"\xff\xfe"
    raw = pa.array(values, type=pa.binary())
    rewrite(path, column, pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2]))
    results = read_all(source_of(tmp_path))
    assert [isinstance(result.sample, Sample) for result in results] == [True, False, True]
    assert results[1].sample_id == sample_id
    assert source_of(tmp_path).read_ids("val-00000.parquet", 0, 3) == [result.sample_id for result in results]
    assert (results[1].sample.stage, results[1].sample.code) == ("read", "not_utf8")


def test_large_arrow_types_are_read_alike(tmp_path):
    path = write_shards([make_sample(index) for index in range(2)], tmp_path, split="val")[0]
    for column in ("sample_id", "question"):
        rewrite(path, column, pq.read_table(path).column(column).combine_chunks().cast(pa.large_string()))
    assert [result.sample for result in read_all(source_of(tmp_path))] == [make_sample(0), make_sample(1)]


def part(kind, text=None, image=None, frames=None):
    return {"kind": kind, "text": text, "image": image, "frames": frames}


def piece(kind, **fields):
    return {"kind": kind, **dict.fromkeys(("image", "box", "part", "start", "stop")), **fields}


BAD_ROWS = {
    "unknown part": ({"context": [part("audio", text="x")]}, "kind = 'audio'"),
    "null part": ({"context": [None]}, r"context\[0\] is null"),
    "image without index": ({"context": [part("image")]}, "has image = None"),
    "image that is not there": ({"context": [part("image", image=1)]}, "image 1 of 1"),
    "negative image": ({"context": [part("image", image=-1)]}, "image -1 of 1"),
    "text with an image": ({"context": [part("text", text="x", image=0)]}, "has image = 0"),
    "frame that is not there": ({"context": [part("video", frames=[0, 4])]}, "image 4 of 1"),
    "video without frames": ({"context": [part("video", frames=[])]}, r"has frames = \[\]"),
    "empty question": ({"question": " "}, "question is empty"),
    "null answer": ({"answers": ["a", None]}, r"answers\[1\] is null"),
    "unknown evidence": ({"evidence": [piece("circle", image=0)]}, "kind = 'circle'"),
    "box without image": ({"evidence": [piece("box", box=[0, 0, 1, 1])]}, "has no image"),
    "evidence in an image that is not shown": ({"evidence": [piece("image", image=3)]}, "image 3, which"),
    "box of three": ({"evidence": [piece("box", image=0, box=[0, 0, 1])]}, "not four finite numbers"),
    "box of NaN": ({"evidence": [piece("box", image=0, box=[0, 0, 1, float("nan")])]}, "not four finite"),
    "span of an image": ({"evidence": [piece("text", part=0, start=0, stop=1)]}, "no text part"),
    "span beyond the text": ({"evidence": [piece("text", part=1, start=9, stop=99)]}, "text of 13"),
    "empty span": ({"evidence": [piece("text", part=1, start=9, stop=9)]}, "characters 9 to 9"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_row_that_contradicts_itself_costs_one_row(tmp_path, case):
    changes, message = BAD_ROWS[case]
    table = samples_table([make_sample(index) for index in range(3)])
    rows = table.to_pylist()
    rows[1].update(changes)
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), tmp_path / "val-0.parquet")
    good, bad, last = read_all(source_of(tmp_path))
    assert isinstance(good.sample, Sample)
    assert isinstance(last.sample, Sample)
    assert isinstance(bad.sample, SampleError)
    assert (bad.sample_id, bad.row, bad.sample.code) == ("sample-1", 1, "bad_row")
    with pytest.raises(SampleError, match=message):
        raise bad.sample
