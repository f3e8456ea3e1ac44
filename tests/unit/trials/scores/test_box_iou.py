"""Boxes as models print them, and their overlap."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rampipe.trials.scores import score_answer
from rampipe.trials.scores.box_iou import iou
from rampipe.types import Evidence, Sample, StoredImage

SIDE = st.integers(0, 20).map(float)
BOX = st.tuples(SIDE, SIDE, SIDE, SIDE)


def image(width, height):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return StoredImage(buffer.getvalue(), None)


def sample_with(*boxes, size=(200, 100)):
    evidence = tuple(Evidence("box", image=0, box=box) for box in boxes)
    return Sample("a", "d", (), (image(*size),), "q", (), None, evidence)


def judged(prediction, *boxes):
    return score_answer(prediction, sample_with(*(boxes or [(20.0, 20.0, 100.0, 60.0)])), metric="box_iou")


@pytest.mark.parametrize(
    "prediction",
    [
        "[20, 20, 100, 60]",
        "It is at (20.0,20.0,100.0,60.0).",
        '```json\n[{"bbox_2d": [20, 20, 100, 60], "label": "2 cells"}]\n```',
        "[0.1, .2, 0.5, 0.6]",
        "(100,200),(500,600)",
        "<|object_ref_start|>cell<|object_ref_end|><|box_start|>(100,200),(500,600)<|box_end|>",
        "[[100, 200], [500, 600]]",
    ],
)
def test_every_printed_form(prediction):
    found = judged(prediction)
    assert found.score == pytest.approx(1.0)
    assert found.correct is True


@pytest.mark.parametrize(
    "prediction",
    [
        "",
        "Paris",
        "20, 20, 100, 60",
        "[20, 20, 100]",
        "[20, 20, 100, 60, 80]",
        "[100, 60, 20, 20]",
        "[20, 20, 20, 60]",
        "[-100, -60, -20, -20]",
        "[100, 200, 500, 600]",
        "(20,20),(100,60)",
    ],
    ids=["empty", "text", "bare", "three", "five", "inverted", "flat", "outside", "other_unit", "other_unit_points"],
)
def test_no_box_or_another_box_is_wrong(prediction):
    found = judged(prediction)
    assert found.correct is False
    assert found.score < 0.5


def test_the_nearest_box_of_the_evidence_counts():
    near, far = (20.0, 20.0, 100.0, 60.0), (150.0, 80.0, 160.0, 90.0)
    assert judged("[20, 20, 100, 60]", far, near).score == 1.0
    assert judged("[20, 20, 100, 60]", far).score == 0.0


def test_the_first_printed_box_counts():
    assert judged("[150, 80, 160, 90] or [20, 20, 100, 60]").score == 0.0


@pytest.mark.parametrize(("prediction", "score"), [("[20, 20, 100, 40]", 0.5), ("[20, 20, 100, 39]", 0.475)])
def test_half_an_overlap_is_correct(prediction, score):
    found = judged(prediction)
    assert found.score == pytest.approx(score)
    assert found.correct is (score >= 0.5)


def test_shares_are_of_the_image_that_holds_the_box():
    images = (image(200, 100), image(400, 400))
    evidence = (Evidence("box", image=1, box=(0.0, 0.0, 200.0, 200.0)),)
    sample = Sample("a", "d", (), images, "q", (), None, evidence)
    assert score_answer("[0, 0, 0.5, 0.5]", sample, metric="box_iou").score == pytest.approx(1.0)


@pytest.mark.parametrize("evidence", [(), (Evidence("image", image=0),)], ids=["none", "whole_image"])
def test_without_a_box_there_is_no_verdict(evidence):
    sample = Sample("a", "d", (), (image(9, 9),), "q", ("x",), None, evidence)
    found = score_answer("[0, 0, 9, 9]", sample, metric="box_iou")
    assert (found.correct, found.score) == (None, None)


@given(BOX, BOX)
def test_iou_is_symmetric_and_a_share(first, second):
    value = iou(first, second)
    assert 0.0 <= value <= 1.0
    assert value == pytest.approx(iou(second, first))


@given(BOX, BOX)
def test_iou_counts_cells(first, second):
    """On whole numbers an area is a number of cells."""
    cells = [
        {(x, y) for x in range(int(x0), int(x1)) for y in range(int(y0), int(y1))} for x0, y0, x1, y1 in (first, second)
    ]
    both, any_of = cells[0] & cells[1], cells[0] | cells[1]
    assert iou(first, second) == pytest.approx(len(both) / len(any_of) if both else 0.0)
