"""BoundingDocs in its published layout."""

from __future__ import annotations

import json

import pytest

from rampipe.errors import DataError
from tests.unit.data.made import errors_of, hub_image, picture, put_table, samples_of, source_of


def answer(**changes):
    return {"value": "11-Jun-2007", "location": [[50, 10, 700, 139], [5, 9, 758, 141]], "page": 1, **changes}


def asked(**changes):
    return {"question": "What is the Due date?", "answers": [answer()], "rephrased_question": "When?", **changes}


def row(questions, *, images=None):
    return {
        "source": "FATURA",
        "doc_id": "Template26",
        "doc_images": [hub_image(data) for data in images or [picture(200, 100)]],
        "doc_ocr": ["{}"],
        "Q&A": questions if isinstance(questions, str) else json.dumps(questions),
    }


def test_locations_are_width_height_left_top_in_thousandths(tmp_path):
    pages = [picture(200, 100), picture(1000, 500)]
    second = asked(answers=[answer(page=2, location=[[100, 20, 0, 0]])], rephrased_question=None)
    put_table(tmp_path / "data/test-0.parquet", [row({"FATURA/1": asked(), "FATURA/2": second}, images=pages)])
    first, other = samples_of(source_of(tmp_path, "boundingdocs"))
    assert [image.bytes for image in first.images] == pages
    assert first.evidence[0].box == pytest.approx((140.0, 13.9, 150.0, 14.9))
    assert (first.question, first.answers, first.domain) == ("When?", ("11-Jun-2007",), "FATURA")
    assert (other.evidence[0].image, other.question) == (1, "What is the Due date?")
    assert other.evidence[0].box == pytest.approx((0.0, 0.0, 100.0, 10.0))


def test_rows_hold_any_number_of_questions(tmp_path):
    rows = [row({}), row({"a": asked(), "b": asked()}), row({"a": asked(answers=[])})]
    put_table(tmp_path / "data/train-0.parquet", rows)
    samples = samples_of(source_of(tmp_path, "boundingdocs"))
    assert [sample.sample_id for sample in samples] == ["a@train-0/1", "b@train-0/1", "a@train-0/2"]
    assert (samples[2].answers, samples[2].evidence) == ((), ())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"page": 2}, "bad_row"),
        ({"page": 0}, "bad_row"),
        ({"location": [[50, 0, 700, 139]]}, "evidence_outside"),
        ({"location": [[50, 10, 1400, 139]]}, "evidence_outside"),
        ({"location": [[50, 10, 700]]}, "bad_row"),
    ],
)
def test_an_answer_that_is_nowhere_costs_its_sample(tmp_path, changes, code):
    put_table(tmp_path / "data/test-0.parquet", [row({"a": asked(), "b": asked(answers=[answer(**changes)])})])
    errors = errors_of(source_of(tmp_path, "boundingdocs"))
    assert [error and error.code for error in errors] == [None, code]


def test_questions_that_are_not_json_name_the_row(tmp_path):
    put_table(tmp_path / "data/test-0.parquet", [row("{")])
    with pytest.raises(DataError, match="test-0/0: column 'Q&A' is not JSON"):
        source_of(tmp_path, "boundingdocs").shards()
