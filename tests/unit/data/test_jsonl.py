"""Datasets of the samples.jsonl layout, from small folders made here."""

from __future__ import annotations

import json

import pytest

from rampipe.config import DataConfig
from rampipe.data import open_source
from rampipe.errors import DataError, SampleError
from rampipe.types import Evidence


def line(index: int, **changes):
    return {
        "sample_id": f"r-{index}",
        "split": "select" if index < 2 else "eval",
        "images": [f"images/{index}.jpg"],
        "question": "What is the total?",
        "answer": "2.56",
        "evidence_boxes": [{"image": 0, "xyxy": [1, 2, 3, 4], "text": "2.56"}],
        "evidence_policy": "exact",
        "evidence_images": [0],
        "field": "total",
        **changes,
    }


def write(folder, lines):
    (folder / "images").mkdir(exist_ok=True)
    for entry in lines:
        for name in entry.get("images", []):
            (folder / name).write_bytes(f"bytes of {name}".encode())
    (folder / "samples.jsonl").write_text("\n".join(json.dumps(entry) for entry in lines))


def source_of(folder, name="sroie", **keys):
    return open_source(DataConfig(source=name, path=str(folder), **keys))


def test_one_virtual_shard_a_split(tmp_path):
    write(tmp_path, [line(0), line(2), line(1)])
    source = source_of(tmp_path)
    assert [(shard.path, shard.num_rows) for shard in source.shards()] == [
        ("eval-samples.jsonl", 1),
        ("select-samples.jsonl", 2),
    ]
    assert [shard.path for shard in source_of(tmp_path, split="select").shards()] == ["select-samples.jsonl"]
    results = list(source.read("select-samples.jsonl", 1, 2))
    assert [(result.row, result.sample_id) for result in results] == [(1, "r-1")]
    assert results[0].sample.images[0].bytes == b"bytes of images/1.jpg"
    assert results[0].sample.domain == "receipt_total"
    assert results[0].sample.evidence == (Evidence(kind="box", image=0, box=(1.0, 2.0, 3.0, 4.0)),)


def test_digest_covers_lines_and_images_of_the_split_only(tmp_path):
    write(tmp_path, [line(0), line(2)])
    before = {shard.path: shard.digest for shard in source_of(tmp_path).shards()}
    (tmp_path / "images/0.jpg").write_bytes(b"another picture")
    after = {shard.path: shard.digest for shard in source_of(tmp_path).shards()}
    assert before["eval-samples.jsonl"] == after["eval-samples.jsonl"]
    assert before["select-samples.jsonl"] != after["select-samples.jsonl"]
    write(tmp_path, [line(0), line(2, answer="3.00")])
    again = {shard.path: shard.digest for shard in source_of(tmp_path).shards()}
    assert again["select-samples.jsonl"] == before["select-samples.jsonl"]
    assert again["eval-samples.jsonl"] != before["eval-samples.jsonl"]


def test_missing_image_costs_its_sample(tmp_path):
    write(tmp_path, [line(0), line(1)])
    (tmp_path / "images/0.jpg").unlink()
    source = source_of(tmp_path)
    assert source.shards()[0].num_rows == 2
    bad, good = source.read("select-samples.jsonl", 0, 2)
    assert isinstance(bad.sample, SampleError)
    assert bad.sample.code == "image_missing"
    assert good.sample.sample_id == "r-1"
    assert source.read_ids("select-samples.jsonl", 0, 2) == ["r-0", "r-1"]
    assert source.read_ids("select-samples.jsonl", 1, 2) == ["r-1"]
    with pytest.raises(DataError, match="rows 0 to 3 of 2"):
        source.read_ids("select-samples.jsonl", 0, 3)


@pytest.mark.parametrize(
    "boxes", [[{"image": 1, "xyxy": [1, 2, 3, 4]}], [{"image": 0, "xyxy": [1, 2, 3]}], [{"image": 0}], [7]]
)
def test_evidence_that_points_nowhere_costs_its_sample(tmp_path, boxes):
    write(tmp_path, [line(0, evidence_boxes=boxes), line(1)])
    bad, good = source_of(tmp_path).read("select-samples.jsonl", 0, 2)
    assert bad.sample.code == "bad_row"
    assert good.sample.sample_id == "r-1"


def test_missing_folder_says_where_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"no samples\.jsonl there\. SROIE receipts come from github"):
        source_of(tmp_path / "nowhere").shards()


def test_broken_lines_name_the_line(tmp_path):
    write(tmp_path, [line(0)])
    path = tmp_path / "samples.jsonl"
    good = path.read_text()
    for text, message in [
        (good + "\n{", "line 2: not JSON"),
        (good + "\n[]", r"line 2: no key \['sample_id'"),
        (good + "\n" + json.dumps({key: value for key, value in line(1).items() if key != "field"}), r"no key \['fie"),
        (good + "\n\n" + good, "'r-0' is on line 1 and on line 3"),
        ("", "holds no line"),
    ]:
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            source_of(tmp_path).shards()


def test_unknown_split_lists_the_splits(tmp_path):
    write(tmp_path, [line(0), line(2)])
    with pytest.raises(DataError, match=r"no split 'train', only \['eval', 'select'\]"):
        source_of(tmp_path, split="train").shards()


def test_pages_are_whole_images_and_lists_one_answer(tmp_path):
    write(tmp_path, [line(0, evidence_policy="page", answer=["A", 2]), line(1, evidence_policy="region", answer=5)])
    page, region = (result.sample for result in source_of(tmp_path, "longdocurl").read("select-samples.jsonl", 0, 2))
    assert page.evidence == (Evidence(kind="image", image=0),)
    assert page.answers == ("A; 2",)
    assert region.evidence[0].kind == "box"
    assert region.answers == ("5",)
