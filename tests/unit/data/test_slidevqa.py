"""SlideVQA in its published layout."""

from __future__ import annotations

import pytest

from rampipe.types import Evidence
from tests.unit.data.made import errors_of, picture, put, samples_of, source_of


def line(index, **changes):
    return {
        "deck_name": "deck",
        "deck_url": "https://www.slideshare.net/deck",
        "image_urls": [f"https://image.slidesharecdn.com/deck/95/deck-{page}-1024.jpg?cb=1" for page in (1, 2, 3)],
        "qa_id": index,
        "question": "How many?",
        "answer": "12%",
        "evidence_pages": [3, 1],
        **changes,
    }


def write(folder, lines):
    put(folder / "annotations/qa/dev.jsonl", lines)
    for page in (1, 2, 3):
        put(folder / f"images/dev/deck/deck-{page}-1024.jpg?cb=1", picture(40 + page, 30))


def test_a_slide_without_the_query_string_is_found_too(tmp_path):
    write(tmp_path, [line(0)])
    folder = tmp_path / "images/dev/deck"
    (folder / "deck-2-1024.jpg?cb=1").rename(folder / "deck-2-1024.jpg")
    (sample,) = samples_of(source_of(tmp_path, "slidevqa"))
    assert [image.path.rpartition("/")[2] for image in sample.images] == [
        *("deck-1-1024.jpg?cb=1", "deck-2-1024.jpg", "deck-3-1024.jpg?cb=1")
    ]


def test_slides_in_the_order_of_the_deck_with_evidence_counted_from_one(tmp_path):
    write(tmp_path, [line(0)])
    (sample,) = samples_of(source_of(tmp_path, "slidevqa", split="dev"))
    assert sample.sample_id == "dev/0"
    assert [image.bytes for image in sample.images] == [picture(40 + page, 30) for page in (1, 2, 3)]
    assert sample.evidence == (Evidence(kind="image", image=2), Evidence(kind="image", image=0))


@pytest.mark.parametrize("pages", [[0], [4], ["x"]])
def test_a_slide_that_is_not_there_costs_its_sample(tmp_path, pages):
    write(tmp_path, [line(0), line(1, evidence_pages=pages), line(2, deck_name="gone")])
    errors = errors_of(source_of(tmp_path, "slidevqa"))
    assert [error and error.code for error in errors] == [None, "bad_row", "image_missing"]
