"""RefCOCOg in the layout of lmms-lab/RefCOCOg."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rampipe.errors import DataError
from rampipe.trials.scores import score_answer
from rampipe.types import Evidence
from tests.unit.data.made import errors_of, hub_image, picture, put_table, samples_of, source_of


def row(index, **changes):
    return {
        "question_id": str(index),
        "image": hub_image(picture(40, 20)),
        "question": "Please carefully observe the area",
        "answer": ["the red cup", "cup on the left"],
        "segmentation": [1.0, 2.0, 3.0, 4.0],
        "bbox": [10.0, 5.0, 20.0, 10.0],
        "iscrowd": 0,
        "file_name": f"COCO_{index}.jpg",
        **changes,
    }


def test_one_sample_an_expression_with_the_box_as_corners(tmp_path):
    put_table(tmp_path / "data/val-00000-of-00001.parquet", [row(index) for index in range(3)])
    put_table(tmp_path / "data/test-00000-of-00001.parquet", [row(7)])
    source = source_of(tmp_path, "refcocog", split="val")
    assert [(shard.path, shard.num_rows) for shard in source.shards()] == [("data/val-00000-of-00001.parquet", 6)]
    samples = samples_of(source)
    assert samples[1].sample_id == "0@val-00000-of-00001/0/1"
    assert samples[1].question.endswith("cup on the left")
    assert samples[1].evidence == (Evidence(kind="box", image=0, box=(10.0, 5.0, 30.0, 15.0)),)
    assert samples[1].answers == ("[0.250, 0.250, 0.750, 0.750]",)
    assert samples[1].images[0].bytes == picture(40, 20)


def test_the_answer_is_right_by_the_datasets_own_score_and_a_box_in_another_order_is_not(tmp_path):
    put_table(tmp_path / "data/val-0.parquet", [row(0, bbox=[10.0, 0.0, 10.0, 20.0])])
    sample = samples_of(source_of(tmp_path, "refcocog"))[0]
    assert score_answer(sample.answers[0], sample, metric="box_iou").correct
    wrong = replace(sample, evidence=(Evidence(kind="box", image=0, box=(10.0, 0.0, 10.5, 20.0)),))
    assert not score_answer(sample.answers[0], wrong, metric="box_iou").correct


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"bbox": [30.0, 5.0, -20.0, 10.0]}, "evidence_outside"),
        ({"bbox": [50.0, 5.0, 20.0, 10.0]}, "evidence_outside"),
        ({"bbox": [1.0, 2.0, 3.0]}, "bad_row"),
        ({"image": hub_image(None)}, "image_missing"),
        ({"image": hub_image(b"no image")}, "image_corrupt"),
    ],
)
def test_a_bad_row_costs_its_samples(tmp_path, changes, code):
    put_table(tmp_path / "data/val-0.parquet", [row(0), row(1, **changes), row(2)])
    errors = errors_of(source_of(tmp_path, "refcocog"))
    assert [error and error.code for error in errors] == [None, None, code, code, None, None]
    assert "1@val-0/1/0" in str(errors[2])


def test_a_missing_column_names_it(tmp_path):
    rows = [{key: value for key, value in row(0).items() if key != "bbox"}]
    put_table(tmp_path / "data/val-0.parquet", rows)
    with pytest.raises(DataError, match=r"no column \['bbox'\].*lmms-lab/RefCOCOg"):
        source_of(tmp_path, "refcocog").shards()


def test_a_truncated_file_and_an_absent_split_are_named(tmp_path):
    path = put_table(tmp_path / "data/val-0.parquet", [row(0)])
    with pytest.raises(DataError, match=r"no split 'train', only \['val'\]"):
        source_of(tmp_path, "refcocog", split="train").shards()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"val-0\.parquet: not a readable Parquet file"):
        source_of(tmp_path, "refcocog").shards()
