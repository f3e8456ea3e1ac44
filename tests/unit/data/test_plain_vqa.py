"""DocVQA, ChartQA and TextVQA in the layouts of lmms-lab's copies: questions without evidence."""

from __future__ import annotations

import pytest

from tests.unit.data.made import errors_of, hub_image, picture, put_table, samples_of, source_of

ROWS = {
    "docvqa": {"questionId": "49153", "question": "When?", "answers": ["1 May", "May 1"], "question_types": ["form"]},
    "chartqa": {"type": "human_test", "question": "When?", "answer": "14"},
    "textvqa": {"question_id": 34602, "question": "When?", "answers": ["no", "dakota", "dakota", "dakota digital"]},
}
FILES = {
    "docvqa": "DocVQA/validation-0.parquet",
    "chartqa": "data/test-0.parquet",
    "textvqa": "data/validation-0.parquet",
}
EXPECTED = {
    "docvqa": ("49153", ("1 May", "May 1")),
    "chartqa": ("human_test@test-0/0", ("14",)),
    "textvqa": ("34602", ("dakota", "no", "dakota digital")),
}


def row(name, **changes):
    return {**ROWS[name], "image": hub_image(picture()), **changes}


@pytest.mark.parametrize("name", ROWS)
def test_one_question_a_row_without_evidence(tmp_path, name):
    put_table(tmp_path / FILES[name], [row(name)])
    (sample,) = samples_of(source_of(tmp_path, name))
    assert (sample.sample_id, sample.answers) == EXPECTED[name]
    assert (sample.evidence, sample.question) == ((), "When?")


@pytest.mark.parametrize("name", ROWS)
def test_a_missing_image_costs_its_sample(tmp_path, name):
    put_table(tmp_path / FILES[name], [row(name, image=hub_image(None))])
    (error,) = errors_of(source_of(tmp_path, name))
    assert error is not None
    assert error.code == "image_missing"


@pytest.mark.parametrize(("name", "key"), [("docvqa", "questionId"), ("textvqa", "question_id")])
def test_a_split_without_answers_gives_no_verdict(tmp_path, name, key):
    rows = [row(name, **{key: ROWS[name][key]}), row(name, answers=None, **{key: type(ROWS[name][key])(7)})]
    put_table(tmp_path / FILES[name], rows)
    assert [sample.answers for sample in samples_of(source_of(tmp_path, name))] == [EXPECTED[name][1], ()]


def test_docvqa_reads_no_file_of_the_infographics_beside_it(tmp_path):
    put_table(tmp_path / FILES["docvqa"], [row("docvqa")])
    put_table(tmp_path / "InfographicVQA/validation-0.parquet", [row("docvqa")])
    assert [shard.path for shard in source_of(tmp_path, "docvqa").shards()] == ["DocVQA/validation-0.parquet"]
