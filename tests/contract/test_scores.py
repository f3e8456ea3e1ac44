"""What holds for every scoring rule of the tuple, and which rule a dataset gets."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rampipe.config import DataConfig
from rampipe.data import SOURCES
from rampipe.errors import ConfigError
from rampipe.trials.scores import SCORES, Rule, Scored, resolve_metric, score_answer, score_identity, score_sample
from rampipe.types import Evidence, Sample, StoredImage

BUFFER = io.BytesIO()
Image.new("RGB", (50, 40)).save(BUFFER, "PNG")
BOXES = ((10.0, 5.0, 30.0, 25.0), (0.0, 0.0, 5.0, 5.0))
SAMPLE = Sample(
    sample_id="a",
    domain="d",
    context=(),
    images=(StoredImage(BUFFER.getvalue(), None),),
    question="q",
    answers=("Lyon", "Paris"),
    choices=("Rome", "Paris", "Lyon"),
    evidence=tuple(Evidence("box", image=0, box=box) for box in BOXES),
)
NOTHING = replace(SAMPLE, answers=(), choices=None, evidence=())
RIGHT = {rule.ID: "Paris" for rule in SCORES} | {"box_iou": "[10, 5, 30, 25]"}
PRINTED = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["A", "b)", "C. Lyon", "Pariss", "it is Lyon", "[9, 5, 30, 25]", "(0,0),(100,125)", "[9e9, 1, 1, 1]"]
    ),
)


@pytest.fixture(params=SCORES, ids=lambda rule: rule.ID)
def rule(request):
    return request.param


def test_shape_of_a_rule(rule):
    assert isinstance(rule, Rule)
    assert rule.MEANING
    assert 0.0 < rule.CORRECT_FROM <= 1.0


def test_the_configuration_knows_every_rule():
    allowed = get_args(DataConfig.model_fields["score"].annotation)
    assert list(allowed) == ["auto", *(rule.ID for rule in SCORES)]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_the_default_of_a_dataset_is_a_rule(source):
    assert source.SCORE in {rule.ID for rule in SCORES}


def test_right_is_right_and_nothing_is_wrong(rule):
    assert score_answer(RIGHT[rule.ID], SAMPLE, metric=rule.ID) == Scored(True, 1.0)
    for wrong in ("", " \n", "Rome"):
        assert score_answer(wrong, SAMPLE, metric=rule.ID) == Scored(False, 0.0)


def test_a_sample_with_nothing_to_compare_with_is_not_judged(rule):
    assert score_answer(RIGHT[rule.ID], NOTHING, metric=rule.ID) == Scored(None, None)


@given(prediction=PRINTED)
def test_scores_are_shares_and_order_means_nothing(prediction):
    backwards = replace(SAMPLE, answers=SAMPLE.answers[::-1], evidence=SAMPLE.evidence[::-1])
    for rule in SCORES:
        found = score_answer(prediction, SAMPLE, metric=rule.ID)
        assert found.score is not None
        assert 0.0 <= found.score <= 1.0
        assert found.correct is (found.score >= rule.CORRECT_FROM)
        assert score_answer(prediction, backwards, metric=rule.ID) == found


def test_an_unknown_rule_is_refused():
    with pytest.raises(ConfigError, match=r"data.score = 'bleu'.*exact_match"):
        score_answer("x", SAMPLE, metric="bleu")


@pytest.mark.parametrize(
    ("configured", "default", "answers", "choices", "expected"),
    [
        ("auto", "exact_match", ("Paris",), None, "exact_match"),
        ("auto", "exact_match", ("Paris",), ("Rome", "Paris"), "choice"),
        ("auto", "anls", ("Paris",), None, "anls"),
        ("auto", "anls", ("2015",), None, "exact_match"),
        ("auto", "anls", ("19/10/2018", "$5.50"), None, "exact_match"),
        ("auto", "anls", ("5 pages",), None, "anls"),
        ("anls", "exact_match", ("2015",), ("2015", "2016"), "anls"),
        ("containment", "anls", ("5",), None, "containment"),
    ],
)
def test_which_rule_a_sample_gets(configured, default, answers, choices, expected):
    assert resolve_metric(configured, default, replace(SAMPLE, answers=answers, choices=choices)) == expected


def test_the_dataset_decides_unless_the_configuration_does():
    sample = replace(SAMPLE, choices=None)
    document, native = DataConfig(source="longdocurl", path="x"), DataConfig(path="x")
    assert score_sample("Pariz", sample, data=document) == Scored(True, 0.8)
    assert score_sample("Pariz", sample, data=native) == Scored(False, 0.0)
    assert score_sample("Pariz", sample, data=native.model_copy(update={"score": "anls"})) == Scored(True, 0.8)


def test_identity_changes_with_the_rule_and_with_the_default_of_the_dataset():
    document, native = DataConfig(source="longdocurl", path="x"), DataConfig(path="x")
    named = [config.model_copy(update={"score": "anls"}) for config in (document, native)]
    assert score_identity(document) != score_identity(native)
    assert score_identity(named[0]) == score_identity(named[1])
    assert score_identity(named[1]) != score_identity(native)
