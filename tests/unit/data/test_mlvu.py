"""MLVU in its published layout, and frames by number."""

from __future__ import annotations

import json

import pytest

from rampipe.data.frames import spread
from rampipe.trials.scores import score_answer
from tests.unit.data.made import errors_of, picture, put, samples_of, source_of


def entry(**changes):
    return {
        "video": "movie101_66.mp4",
        "duration": 246,
        "question": "What colour?",
        "candidates": ["Yellow", "Red"],
        "answer": "Red",
        "question_type": "plotQA",
        **changes,
    }


def write(folder, entries, *, task="1_plotQA"):
    put(folder / f"json/{task}.json", json.dumps(entries))
    for frame in (0, 30, 7):
        put(folder / f"frames/{task}/movie101_66/{frame}.jpg", picture(form="JPEG"))


def test_frames_in_time_order_and_lettered_options(tmp_path):
    write(tmp_path, [entry()])
    write(tmp_path, [{"video": "x.mp4", "question": "Summarise.", "answer": "Waves."}], task="9_summary")
    (sample,) = samples_of(source_of(tmp_path, "mlvu"))
    assert [image.path for image in sample.images] == [f"frames/1_plotQA/movie101_66/{n}.jpg" for n in (0, 7, 30)]
    assert sample.context[0].frames == (0, 1, 2)
    assert "A. Yellow\nB. Red\n" in sample.question
    assert score_answer("B", sample, metric="choice").correct
    assert not score_answer("A", sample, metric="choice").correct
    assert (sample.sample_id, sample.evidence) == ("1_plotQA/0", ())


def test_a_video_without_stored_frames_costs_its_samples(tmp_path):
    write(tmp_path, [entry(), entry(video="gone.mp4")])
    errors = errors_of(source_of(tmp_path, "mlvu", split="1_plotQA"))
    assert [error and error.code for error in errors] == [None, "image_missing"]


@pytest.mark.parametrize(("num", "expected"), [(0, []), (3, [0, 1, 2]), (8, [1, 3, 5, 7]), (9, [1, 3, 5, 7])])
def test_frames_are_spread_evenly(num, expected):
    assert spread(range(num), at_most=4) == expected
