"""MMNeedle in its published layout."""

from __future__ import annotations

import json

import pytest

from rampipe.errors import DataError
from tests.unit.data.made import errors_of, picture, put, samples_of, source_of

PICTURES = ["images_stitched/2_2/a.jpg", "images_stitched/2_2/b.jpg"]


def entry(number, **changes):
    return {
        "id": number,
        "image_ids": PICTURES,
        "index": 1,
        "row": 0,
        "col": 1,
        "target": "val2014/COCO_1.jpg",
        **changes,
    }


def write(folder, entries, *, name="annotations_2_2_2.json"):
    put(folder / "metadata_stitched" / name, json.dumps(entries))
    put(folder / "file_to_caption.json", json.dumps({"COCO_1.jpg": "a red bus", "COCO_2.jpg": "a blue bus"}))
    for image in PICTURES:
        put(folder / image, picture(512, 256))


def test_the_cell_is_the_evidence_and_the_answer_counts_from_one(tmp_path):
    write(tmp_path, [entry(0), entry(1, index=0, row=1, col=0)])
    first, second = samples_of(source_of(tmp_path, "mmneedle", split="2_2_2"))
    assert (first.answers, first.evidence[0].image) == (("2, 1, 2",), 1)
    assert first.evidence[0].box == (256.0, 0.0, 512.0, 128.0)
    assert second.evidence[0].box == (0.0, 128.0, 256.0, 256.0)
    assert "a red bus" in first.question


def test_an_absent_needle_has_no_evidence(tmp_path):
    write(tmp_path, [entry(0, index=-1, row=-1, col=-1)])
    (sample,) = samples_of(source_of(tmp_path, "mmneedle"))
    assert (sample.answers, sample.evidence) == (("-1",), ())


def test_several_needles_have_a_cell_each(tmp_path):
    both = entry(0, index=[0, -1], row=[0, -1], col=[0, -1], target=["x/COCO_1.jpg", "x/COCO_2.jpg"])
    none = entry(1, index=[-1, -1], row=[-1, -1], col=[-1, -1], target=["x/COCO_1.jpg", "x/COCO_2.jpg"])
    write(tmp_path, [both, none], name="2_annotations_2_2_2.json")
    some, nothing = samples_of(source_of(tmp_path, "mmneedle", split="2_2_2_2"))
    assert some.answers == ("1, 1, 1; -1",)
    assert [piece.box for piece in some.evidence] == [(0.0, 0.0, 256.0, 128.0)]
    assert nothing.answers == ("-1", "-1; -1")


@pytest.mark.parametrize("changes", [{"index": 2}, {"row": 2}, {"col": -1}, {"row": [0, 1]}])
def test_a_cell_that_is_not_there_costs_its_sample(tmp_path, changes):
    write(tmp_path, [entry(0), entry(1, **changes)])
    errors = errors_of(source_of(tmp_path, "mmneedle"))
    assert [error and error.code for error in errors] == [None, "bad_row"]


def test_a_needle_without_caption_stops_the_plan(tmp_path):
    write(tmp_path, [entry(0, target="val2014/COCO_9.jpg")])
    with pytest.raises(DataError, match=r"no caption of COCO_9\.jpg"):
        source_of(tmp_path, "mmneedle").shards()
