"""Visual-CoT in its published layout."""

from __future__ import annotations

import pytest

from tests.unit.data.made import errors_of, picture, put, samples_of, source_of


def line(**changes):
    return {
        "question": "What is the date?",
        "answer": "1 May",
        "image": "a.png",
        "width": 200,
        "height": 100,
        "bboxs": [[10, 20, 30, 40], [50, 60, 70, 80]],
        "dataset": "docvqa",
        "split": "train",
        **changes,
    }


def write(folder, lines, *, dataset="docvqa", size=(200, 100)):
    put(folder / f"metadata/{dataset}_cot_train.jsonl", lines)
    put(folder / "cot/docvqa/a.png", picture(*size))
    put(folder / "cot/textvqa/a.png", picture(*size))


def test_every_box_is_evidence_in_pixels_of_the_stored_image(tmp_path):
    write(tmp_path, [line()])
    (sample,) = samples_of(source_of(tmp_path, "visual_cot", split="docvqa"))
    assert [piece.box for piece in sample.evidence] == [(10.0, 20.0, 30.0, 40.0), (50.0, 60.0, 70.0, 80.0)]
    assert (sample.sample_id, sample.domain) == ("docvqa_cot_train/1", "docvqa")
    write(tmp_path, [line()], size=(400, 300))
    (larger,) = samples_of(source_of(tmp_path, "visual_cot"))
    assert larger.evidence[0].box == (20.0, 60.0, 60.0, 120.0)


def test_textcap_shows_the_images_of_textvqa(tmp_path):
    write(tmp_path, [line(dataset="textcap")], dataset="textcap")
    (sample,) = samples_of(source_of(tmp_path, "visual_cot"))
    assert sample.images[0].path == "cot/textvqa/a.png"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"bboxs": [[30, 20, 10, 40]]}, "evidence_outside"),
        ({"bboxs": [[300, 20, 310, 40]]}, "evidence_outside"),
        ({"width": 0}, "bad_row"),
        ({"image": "gone.png"}, "image_missing"),
    ],
)
def test_a_bad_line_costs_its_sample(tmp_path, changes, code):
    write(tmp_path, [line(), line(**changes)])
    errors = errors_of(source_of(tmp_path, "visual_cot"))
    assert [error and error.code for error in errors] == [None, code]
