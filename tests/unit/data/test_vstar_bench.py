"""V*Bench in its published layout."""

from __future__ import annotations

import json

import pytest

from rampipe.errors import DataError
from rampipe.trials.scores import score_answer
from tests.unit.data.made import errors_of, picture, put, samples_of, source_of


def annotation(**changes):
    return {
        "target_object": ["glove"],
        "bbox": [[20, 10, 30, 5]],
        "question": "What is the material of the glove?",
        "options": ["rubber", "cotton", "kevlar", "leather"],
        **changes,
    }


def write(folder, annotations, *, kind="direct_attributes"):
    for index, one in enumerate(annotations):
        put(folder / kind / f"sa_{index}.jpg", picture(200, 100, form="JPEG"))
        put(folder / kind / f"sa_{index}.json", json.dumps(one))


def test_boxes_are_left_top_width_height(tmp_path):
    write(tmp_path, [annotation()])
    write(tmp_path, [annotation(bbox=[[0, 0, 1, 1], [5, 5, 2, 2]])], kind="relative_position")
    (first,) = samples_of(source_of(tmp_path, "vstar_bench", split="direct_attributes"))
    assert first.evidence[0].box == (20.0, 10.0, 50.0, 15.0)
    assert first.domain == "direct_attributes"
    (second,) = samples_of(source_of(tmp_path, "vstar_bench", split="relative_position"))
    assert [piece.box for piece in second.evidence] == [(0.0, 0.0, 1.0, 1.0), (5.0, 5.0, 7.0, 7.0)]


def test_the_right_letter_differs_between_questions_and_is_the_right_option(tmp_path):
    write(tmp_path, [annotation() for _ in range(12)])
    samples = samples_of(source_of(tmp_path, "vstar_bench"))
    letters = ["ABCD"[sample.choices.index("rubber")] for sample in samples]
    assert len(set(letters)) > 1
    for sample, letter in zip(samples, letters, strict=True):
        assert f"{letter}. rubber" in sample.question
        assert score_answer(letter, sample, metric="choice").correct
        assert not score_answer("cotton", sample, metric="choice").correct


@pytest.mark.parametrize(
    ("changes", "code"), [({"bbox": [[190, 10, -30, 5]]}, "evidence_outside"), ({"bbox": [[1, 2, 3]]}, "bad_row")]
)
def test_a_wrong_box_and_a_missing_photograph_cost_their_samples(tmp_path, changes, code):
    write(tmp_path, [annotation(), annotation(**changes), annotation()])
    (tmp_path / "direct_attributes/sa_2.jpg").unlink()
    errors = errors_of(source_of(tmp_path, "vstar_bench"))
    assert [error and error.code for error in errors] == [None, code, "image_missing"]


def test_a_file_without_options_is_named(tmp_path):
    write(tmp_path, [{"question": "?"}])
    with pytest.raises(DataError, match=r"sa_0\.json: no key \['target_object', 'bbox', 'options'\]"):
        source_of(tmp_path, "vstar_bench").shards()
