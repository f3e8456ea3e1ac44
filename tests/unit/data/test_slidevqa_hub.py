"""SlideVQA in the layout of its copy on the Hub."""

from __future__ import annotations

import pytest

from rampipe.errors import DataError
from rampipe.types import Evidence
from tests.unit.data.made import errors_of, hub_image, picture, put_table, samples_of, source_of


def row(index, **changes):
    pages = {f"page_{page}": hub_image(picture(40 + page, 30)) for page in range(1, 21)}
    return {
        "qa_id": index,
        "deck_name": "deck",
        "deck_url": "https://www.slideshare.net/deck",
        "question": "How many?",
        "answer": "12%",
        "evidence_pages": [3, 20],
        **pages,
        **changes,
    }


def test_slides_in_the_order_of_the_deck_with_evidence_counted_from_one(tmp_path):
    put_table(tmp_path / "data/val-00000-of-00001.parquet", [row(0), row(1, evidence_pages=[1])])
    first, second = samples_of(source_of(tmp_path, "slidevqa_hub", split="val"))
    assert [image.bytes for image in first.images] == [picture(40 + page, 30) for page in range(1, 21)]
    assert first.evidence == (Evidence(kind="image", image=2), Evidence(kind="image", image=19))
    assert second.evidence == (Evidence(kind="image", image=0),)
    assert (first.sample_id, first.answers) == ("0@val-00000-of-00001/0", ("12%",))


def test_a_slide_that_is_not_there_costs_its_sample(tmp_path):
    put_table(tmp_path / "data/val-0.parquet", [row(0), row(1, page_7=hub_image(None)), row(2, evidence_pages=[21])])
    errors = errors_of(source_of(tmp_path, "slidevqa_hub"))
    assert [error and error.code for error in errors] == [None, "image_missing", "bad_row"]


def test_a_table_without_its_slides_is_refused(tmp_path):
    short = row(0)
    del short["page_20"]
    put_table(tmp_path / "data/val-0.parquet", [short])
    with pytest.raises(DataError, match="page_20"):
        source_of(tmp_path, "slidevqa_hub").shards()
